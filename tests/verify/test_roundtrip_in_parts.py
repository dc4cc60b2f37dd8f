"""A round trip whose leaves are shared among parts gives the verdict of one run, and claims only what was read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from engine.disk import converted, write
from engine.in_parts import CONFIG, MAPPING, arrays

from convkit.errors import UsageError
from convkit.files.part import Part
from convkit.files.receipt import read_receipt
from convkit.verify.roundtrip.check import roundtrip
from convkit.verify.roundtrip.in_parts import roundtrip_joined, roundtrip_part
from convkit.verify.verdict import Verdict


@pytest.fixture
def both(tmp_path: Path) -> tuple[Path, Path]:
    source = write(tmp_path / "left", arrays(), CONFIG)
    converted(source, tmp_path / "out", MAPPING)
    return source, tmp_path / "out"


def part(both: tuple[Path, Path], number: int, count: int) -> dict[str, Any]:
    receipt = read_receipt(both[1])
    assert receipt
    return roundtrip_part(*both, receipt["plan"], Part(number, count), receipt=receipt)


def joined(both: tuple[Path, Path]) -> Verdict:
    receipt = read_receipt(both[1])
    assert receipt
    return roundtrip_joined(*both, receipt["plan"], receipt=receipt)


def whole(both: tuple[Path, Path]) -> Verdict:
    receipt = read_receipt(both[1])
    assert receipt
    return roundtrip(*both, receipt["plan"], receipt=receipt)


def said(verdict: Verdict) -> dict[str, Any]:
    document = verdict.to_json() | {"seconds": 0}
    return document | {"problems": sorted(document["problems"])}


@pytest.mark.parametrize("count", [1, 2, 5, 12])
def test_the_verdict_is_that_of_one_run(both: tuple[Path, Path], count: int) -> None:
    for number in range(count, 0, -1):
        assert part(both, number, count)["problems"] == []
    verdict = joined(both)
    assert verdict.passed
    assert verdict.faults
    assert said(verdict) == said(whole(both))
    assert [path.name for path in both[1].parent.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("at", [-1, -(3 << 20), -100])
def test_what_a_part_finds_is_in_the_verdict(both: tuple[Path, Path], at: int) -> None:
    (file,) = both[1].glob("*.safetensors")
    data = bytearray(file.read_bytes())
    data[at] ^= 1
    file.write_bytes(data)
    found = [part(both, number, 3)["problems"] for number in (1, 2, 3)]
    assert sum(map(bool, found)) >= 1
    verdict = joined(both)
    assert verdict.state == "no"
    assert said(verdict) == said(whole(both))


def test_a_missing_part_is_refused(both: tuple[Path, Path]) -> None:
    with pytest.raises(UsageError, match="no part of its roundtrip was made"):
        joined(both)
    for number in (1, 4):
        part(both, number, 4)
    with pytest.raises(UsageError, match=r"of the 4 parts of its roundtrip some are missing: 2, 3 .*--part 2/4"):
        joined(both)
    part(both, 1, 2)
    with pytest.raises(UsageError, match="there are parts of 2 and 4"):
        joined(both)


@pytest.mark.parametrize("side", [0, 1])
def test_parts_about_other_files_are_refused(both: tuple[Path, Path], side: int) -> None:
    for number in (1, 2):
        part(both, number, 2)
    (file,) = both[side].glob("*.safetensors")
    os.utime(file, ns=(0, file.stat().st_mtime_ns + 1))
    with pytest.raises(UsageError, match="part 1/2 of its roundtrip is about another output, source or convkit"):
        joined(both)
    part(both, 1, 2)
    with pytest.raises(UsageError, match="some are missing: 2"):
        joined(both)
    part(both, 2, 2)
    assert joined(both).passed


def test_parts_about_an_earlier_output_are_refused(both: tuple[Path, Path]) -> None:
    part(both, 1, 1)
    converted(both[0], both[1], MAPPING, overwrite=True)
    with pytest.raises(UsageError, match="is about another output"):
        joined(both)


def test_a_target_that_cannot_be_read(both: tuple[Path, Path]) -> None:
    (file,) = both[1].glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:100])
    assert part(both, 1, 1)["problems"]
    assert joined(both).state == "no"
