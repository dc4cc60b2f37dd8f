"""What the workflow does about sources on this machine that change, and about outputs that are gone or damaged."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from campaigns import BACK, GOOD, Campaign, claim

from convkit.fetch.in_place import COPIED_UP_TO
from convkit.generate import generate
from convkit.generate.options import parse

LLAMA = "generated://llama?layers=1&seed=5"


def stages(campaign: Campaign, *options: str) -> set[str]:
    done = campaign.run(*options)
    assert done.returncode == 0, done.stdout + done.stderr
    return set(re.findall(r"Job \d+: (\w+: .+)", done.stdout + done.stderr))


def untouched(campaign: Campaign) -> bool:
    return not campaign.jobs()


def test_an_output_that_is_gone_is_made_again_once(played: Campaign) -> None:
    played.write([GOOD, BACK])
    played.run()
    results = played.directory / "results"
    for gone in ("good/target.mdl", "good/target.mdl", "back/target"):
        (results / gone).rmdir()
        row, done = gone.partition("/")[0], stages(played)
        assert {f"{row}: {stage}" for stage in ("convert", "round trip", "equivalence")} <= done
        assert f"{row}: fetch" not in done
        assert ("good: convert" in done) == (row == "good")
        assert (results / gone).is_dir()
        assert untouched(played)


def test_a_source_on_this_machine_is_fetched_again_when_it_changes(played: Campaign) -> None:
    folder = played.directory / "my models" / "a"
    folder.mkdir(parents=True)
    weights = folder / "model.bin"
    weights.write_bytes(b"1")
    played.write([claim(id="x", source="my models/a")])
    played.run()
    assert untouched(played)
    for change in (
        lambda: os.utime(weights, ns=(1, 1)),
        lambda: (folder / "config.json").write_text("{}"),
        lambda: replace(weights, b"2"),
        lambda: link_elsewhere(folder),
    ):
        change()
        assert stages(played) >= {"x: fetch", "x: convert"}
    assert untouched(played)
    assert weights.read_bytes() == b"3"


def replace(file: Path, data: bytes) -> None:
    """Another file of the same size and time, as an archive may hold it."""
    new = file.with_name("new")
    new.write_bytes(data)
    os.utime(new, ns=(1, 1))
    new.rename(file)


def link_elsewhere(folder: Path) -> None:
    other = folder.with_name("other")
    folder.rename(other)
    replace(other / "model.bin", b"3")
    folder.symlink_to(other)


def test_read_where_it_lies(real: Campaign) -> None:
    """A folder with a space in its name, too large to be copied; then the source and the target change."""
    folder = real.directory / "my models" / "llama $x"
    folder.parent.mkdir()
    generate(parse(LLAMA), folder, lambda done, total: None)
    with (folder / "optimizer.bin").open("wb") as file:
        file.truncate(COPIED_UP_TO)
    real.write([claim(id="x", source=str(folder), checks="roundtrip")])
    real.run()
    assert real.verdicts() == {"x": "left out"}
    fetched, target = real.document("x/fetch.json"), real.directory / "results" / "x" / "target.mdl"
    assert (fetched["in_place"], fetched["path"]) == (True, str(folder))
    assert not (real.directory / "results" / "x" / "source").exists()
    before = real.document("x/convert.json")

    flip(folder / "model.safetensors")
    said = real.run().stderr
    assert real.document("x/convert.json")["source"]["leaves"] != before["source"]["leaves"], said
    assert real.document("x/roundtrip.json")["state"] == "yes"

    flip(target)
    flipped = target.read_bytes()
    assert "x: convert" in real.run().stderr
    assert target.read_bytes() != flipped
    assert real.document("x/roundtrip.json")["state"] == "yes"

    shutil.rmtree(folder)  # there is nothing to prove again
    done = real.run()
    assert "the verdict" in done.stderr
    assert not re.search(r"Job \d+: x: ", done.stderr)


def flip(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.seek(-100, os.SEEK_END)
        byte = opened.read(1)
        opened.seek(-100, os.SEEK_END)
        opened.write(bytes([byte[0] ^ 1]))
