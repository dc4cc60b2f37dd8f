"""An output that parts have made is byte by byte that of one run, and parts of two outputs never mix."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import convkit.execute.in_parts.agreement
from convkit.checkpoint import WriteOptions
from convkit.errors import ConvkitError, UsageError
from convkit.files import shared
from convkit.files.part import Part, stretch
from convkit.files.receipt import read_receipt
from convkit.files.shared import shared_folder, taken_folder
from convkit.formats.plain.preallocated import PreallocatedWriter
from convkit.testing import in_a_fresh_process_that_dies, in_a_process_that_dies
from convkit.verify.receipts import verify
from engine.disk import converted, everything_below, write
from engine.in_parts import (
    CONFIG,
    FORMATS,
    MAPPING,
    arrays,
    finished,
    format_of,
    made,
    part_that_dies,
    short_ranges,
    the_same,
)

#: what a receipt says of one run, and not of what was made
OF_THE_RUN = ("started", "seconds", "threads", "peak_anonymous_bytes", "written", "digest", "in_parts", "command_line")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("source") / "left", arrays(), CONFIG)


@pytest.fixture(autouse=True)
def _time_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    """Orbax records the time."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")


@pytest.mark.parametrize("called", FORMATS)
def test_parts_in_any_order_make_the_bytes_of_one_run(source: Path, tmp_path: Path, called: str) -> None:
    asked, options = {"format": format_of(called)}, FORMATS[called]
    with short_ranges():
        one = converted(source, tmp_path / "one" / "out", MAPPING, asked, options=options)
        for number in (3, 1, 4, 2):
            made(source, tmp_path / "parts" / "out", number, 4, asked, options=options)
        assert not (tmp_path / "parts" / "out").exists()
        receipt = finished(source, tmp_path / "parts" / "out", asked, options=options)
    the_same(tmp_path / "parts", tmp_path / "one")
    assert {k: v for k, v in receipt.items() if k not in OF_THE_RUN} == {
        k: v for k, v in one.items() if k not in OF_THE_RUN
    }
    unstamped = [[entry | {"mtime_ns": 0} for entry in each["written"]] for each in (receipt, one)]
    assert unstamped[0] == unstamped[1]
    assert [part["part"] for part in receipt["in_parts"]["made"]] == [1, 2, 3, 4]
    assert verify(tmp_path / "parts" / "out").passed


def test_every_part_has_a_share(source: Path, tmp_path: Path) -> None:
    """Of a leaf that is larger than a share, several parts make ranges."""
    with short_ranges():
        said = [made(source, tmp_path / "out", number, 4)["made"] for number in range(1, 5)]
    sizes = [part["bytes_made"] for part in said]
    assert sum(sizes) == sum(array.nbytes for key, array in arrays().items() if key in ("down", "same")) + sum(
        (9 * 3 * 7 * 4, 2 * 23 * 11 * 4, 4)
    )
    assert max(sizes) - min(sizes) <= 2 << 20
    assert sum(part["bytes_digested"] for part in said) >= arrays()["down"].nbytes


@settings(max_examples=8)
@given(st.data())
def test_any_number_of_parts_in_any_order_by_any_threads(
    source: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    called = data.draw(st.sampled_from(sorted(FORMATS)))
    asked, how = {"format": format_of(called)}, {"options": FORMATS[called]}
    count = data.draw(st.integers(1, 12))
    order = data.draw(st.permutations(range(1, count + 1)))
    again = data.draw(st.lists(st.sampled_from(order), max_size=2))
    folder = tmp_path_factory.mktemp("any")
    with short_ranges():
        converted(source, folder / "one" / "out", MAPPING, asked, **how)
        for number in (*order, *again):
            made(source, folder / "parts" / "out", number, count, asked, threads=data.draw(st.integers(1, 3)), **how)
        finished(source, folder / "parts" / "out", asked, **how)
    the_same(folder / "parts", folder / "one")


@given(st.lists(st.integers(0, 1 << 40), max_size=50), st.integers(1, 60))
def test_shares_are_all_of_the_work_once_and_balanced(sizes: list[int], count: int) -> None:
    shares = [list(stretch(Part(number, count), sizes)) for number in range(1, count + 1)]
    assert [position for share in shares for position in share] == list(range(len(sizes)))
    largest = max(sizes, default=0)
    assert all(abs(sum(sizes[n] for n in share) - sum(sizes) / count) <= largest + 1 for share in shares)


def test_components_are_made_in_parts_too(tmp_path: Path) -> None:
    """Each component has a writer of its own."""
    from convkit.mapping import Rule
    from engine.memory import mapping_of

    mapping = mapping_of(Rule("a{n}", "one_model.a{n}"), Rule("b{n}", "two_model.b{n}"))
    values = {f"{name}{n}": np.arange(n * 7.0 + 1) for name in "ab" for n in range(5)}
    source = write(tmp_path / "left", values, {})
    asked = {"format": "folders", "allow_missing": ("*",)}
    with patch("engine.in_parts.MAPPING", mapping):
        converted(source, tmp_path / "one" / "out", mapping, asked)
        for number in (2, 1, 3):
            made(source, tmp_path / "parts" / "out", number, 3, asked)
        finished(source, tmp_path / "parts" / "out", asked)
    the_same(tmp_path / "parts", tmp_path / "one")


# --- killed -----------------------------------------------------------------------------------------------------------


def journals(target: Path) -> list[Path]:
    return sorted(shared_folder(target).glob("part-*.jsonl"))


@pytest.mark.parametrize("called", ["safetensors", "torch", "cerebras-h5", "orbax-v1"])
@pytest.mark.parametrize("after", [1, 3, 5])
def test_a_part_that_was_killed_goes_on(source: Path, tmp_path: Path, called: str, after: int) -> None:
    asked = {"format": called}
    target = tmp_path / "parts" / "out"
    dies = in_a_fresh_process_that_dies if called == "orbax-v1" else in_a_process_that_dies  # tensorstore has threads
    dies(partial(part_that_dies, source, target, (1, 2), after, asked=asked))
    assert not target.exists()
    with short_ranges():
        made(source, target, 2, 2, asked)
        with pytest.raises(UsageError, match=r"part 1 is not finished, of 2 parts \(make what is missing: --part 1/2"):
            finished(source, target, asked)
        said = made(source, target, 1, 2, asked)
        assert said["made"]["resumed"]
        assert 0 < said["bytes"] < said["made"]["bytes_made"] + said["made"]["bytes_digested"]
        receipt = finished(source, target, asked)
        converted(source, tmp_path / "one" / "out", MAPPING, asked)
    assert receipt["resumed"]
    the_same(tmp_path / "parts", tmp_path / "one")


def test_a_line_that_the_kill_cut_is_no_line(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "parts" / "out"
    in_a_process_that_dies(partial(part_that_dies, source, target, (1, 1), 3))
    (journal,) = journals(target)
    journal.write_text(journal.read_text()[:-9])
    with short_ranges():
        made(source, target, 1, 1)
        finished(source, target)
        converted(source, tmp_path / "one" / "out", MAPPING)
    the_same(tmp_path / "parts", tmp_path / "one")


def _finish_that_dies(source: Path, target: Path, at: str) -> None:
    with short_ranges(), patch(at, lambda *args, **how: os._exit(0)):
        finished(source, target)


@pytest.mark.parametrize(
    "at",
    [
        "convkit.files.finishing.Joined.of",
        "convkit.execute.conversion.digest_values",
        "convkit.execute.conversion.config_bytes",
        "convkit.execute.publish.write_sealed",
        "convkit.files.publication.sync_tree",
        "convkit.files.publication._finish",
    ],
)
def test_a_finish_that_was_killed_is_done_again(source: Path, tmp_path: Path, at: str) -> None:
    target = tmp_path / "parts" / "out"
    with short_ranges():
        for number in (1, 2):
            made(source, target, number, 2)
        in_a_process_that_dies(partial(_finish_that_dies, source, target, at))
        if not target.exists():
            with pytest.raises(UsageError, match="its parts are being finished"):
                made(source, target, 1, 2)
            with pytest.raises(UsageError, match="is being made in parts"):
                converted(source, target, MAPPING, overwrite=True)
        finished(source, target, overwrite=target.exists())
        converted(source, tmp_path / "one" / "out", MAPPING)
    the_same(tmp_path / "parts", tmp_path / "one")


# --- damage -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("called", ["safetensors", "torch", "t5x", "orbax-v1"])
def test_bytes_that_change_before_they_are_published_are_found_and_made_anew(
    source: Path, tmp_path: Path, called: str
) -> None:
    """A machine went down, or somebody wrote there: what a receipt says is what lies there."""
    asked, target = {"format": called}, tmp_path / "parts" / "out"
    with short_ranges():
        for number in (1, 2):
            made(source, target, number, 2, asked)
        file = max((shared_folder(target) / "out").rglob("*"), key=lambda path: path.stat().st_size)
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 255
        file.write_bytes(data)
        receipt = finished(source, target, asked)
        converted(source, tmp_path / "one" / "out", MAPPING, asked)
    the_same(tmp_path / "parts", tmp_path / "one")
    said = "had written has changed since: started afresh" if called == "orbax-v1" else "a part wrote it: made anew"
    assert [line for line in receipt["warnings"] if line.endswith(said)]


# --- refused ----------------------------------------------------------------------------------------------------------


def _other_commit(patched: pytest.MonkeyPatch) -> None:
    patched.setattr(convkit.execute.in_parts.agreement, "commit", lambda: "0" * 40)


def _other_numpy(patched: pytest.MonkeyPatch) -> None:
    real = convkit.execute.in_parts.agreement.version
    patched.setattr(
        convkit.execute.in_parts.agreement, "version", lambda name: "0.1" if name == "numpy" else real(name)
    )


@pytest.mark.parametrize(
    ("change", "count", "how", "said"),
    [
        (None, 2, {"asked": {"dtype": "float16"}}, "by another plan"),
        (None, 3, {}, "in 2 parts"),
        (None, 2, {"options": WriteOptions(shard_size=1 << 20)}, "with other options"),
        (None, 2, {"digest": "sha256"}, "with other options"),
        (_other_commit, 2, {}, "by convkit .* of commit [0-9a-f]{40}.*, and this is .* of 0{40}"),
        (_other_numpy, 2, {}, "with another version of numpy"),
    ],
)
def test_parts_of_something_else_are_refused(
    source: Path,
    tmp_path: Path,
    *,
    change: Callable[[pytest.MonkeyPatch], None] | None,
    count: int,
    how: dict[str, Any],
    said: str,
) -> None:
    made(source, tmp_path / "out", 1, 2)
    before = everything_below(shared_folder(tmp_path / "out"))
    with pytest.MonkeyPatch.context() as patched:
        if change:
            change(patched)
        with pytest.raises(UsageError, match=f"out: its parts were begun {said} .*start over: --part 0/{count}"):
            made(source, tmp_path / "out", 2, count, **how)
        if count == 2:
            with pytest.raises(UsageError, match=f"its parts were begun {said}"):
                finished(source, tmp_path / "out", **how)
    assert everything_below(shared_folder(tmp_path / "out")) == before


def test_part_0_starts_over_and_only_where_something_else_was_begun(source: Path, tmp_path: Path) -> None:
    made(source, tmp_path / "out", 1, 2)
    made(source, tmp_path / "out", 0, 2)
    assert len(journals(tmp_path / "out")) == 1
    made(source, tmp_path / "out", 0, 3)
    assert not journals(tmp_path / "out")
    for number in (1, 2, 3):
        made(source, tmp_path / "out", number, 3)
    finished(source, tmp_path / "out")


def test_a_source_that_changes_between_parts_is_refused(tmp_path: Path) -> None:
    source = write(tmp_path / "left", arrays(), CONFIG)
    made(source, tmp_path / "out", 1, 2)
    write(source, arrays(seed=1), CONFIG)
    for work in (partial(made, number=2, count=2), finished):
        with pytest.raises(UsageError, match="begun of another source, or it has changed since"):
            work(source, tmp_path / "out")


def test_a_run_whose_source_changes_meanwhile_counts_for_nothing(tmp_path: Path) -> None:
    from convkit.files.unchanged import Watch

    source = write(tmp_path / "left", arrays(), CONFIG)

    def changed(_: Watch) -> None:
        raise ConvkitError("changed while it was read")

    with patch.object(Watch, "check", changed), pytest.raises(ConvkitError, match="changed while"):
        made_with_watch(source, tmp_path / "out")
    with pytest.raises(UsageError, match="part 1 is missing, of 1 parts"):
        finished(source, tmp_path / "out")


def made_with_watch(source: Path, target: Path) -> None:
    from convkit.execute.in_parts import make_part
    from convkit.files.unchanged import Watch
    from convkit.plan import make_plan, open_source

    with open_source(source, watch=Watch(source)) as opened:
        make_part(opened, make_plan(opened, MAPPING), target, Part(1, 1))


def test_missing_parts_are_listed_and_nothing_is_touched(source: Path, tmp_path: Path) -> None:
    for number in (1, 4):
        made(source, tmp_path / "out", number, 5)
    before = everything_below(tmp_path)
    with pytest.raises(UsageError, match="parts 2, 3, 5 are missing, of 5 parts"):
        finished(source, tmp_path / "out")
    assert everything_below(tmp_path) == before
    assert not taken_folder(tmp_path / "out").exists()


def test_finished_twice_and_a_part_after_that(source: Path, tmp_path: Path) -> None:
    made(source, tmp_path / "out", 1, 1)
    receipt = finished(source, tmp_path / "out")
    with pytest.raises(UsageError, match="is finished already"):
        finished(source, tmp_path / "out")
    assert finished(source, tmp_path / "out", overwrite=True) == receipt == read_receipt(tmp_path / "out")
    for how in ({}, {"overwrite": True}):
        with pytest.raises(UsageError, match="is finished: all 1 parts are in it"):
            made(source, tmp_path / "out", 1, 1, **how)
    os.utime(tmp_path / "out" / "model.safetensors")
    with pytest.raises(UsageError, match=r"is finished already, and out/model.safetensors has changed since"):
        finished(source, tmp_path / "out", overwrite=True)


def test_a_target_that_is_there_is_replaced_only_if_asked(source: Path, tmp_path: Path) -> None:
    converted(source, tmp_path / "out", MAPPING)
    with pytest.raises(UsageError, match="exists"):
        made(source, tmp_path / "out", 1, 1)
    made(source, tmp_path / "out", 1, 1, {"dtype": "float16"}, overwrite=True)
    with pytest.raises(UsageError, match="exists"):
        finished(source, tmp_path / "out", {"dtype": "float16"})
    finished(source, tmp_path / "out", {"dtype": "float16"}, overwrite=True)
    converted(source, tmp_path / "one", MAPPING, {"dtype": "float16"})
    assert everything_below(tmp_path / "out") == everything_below(tmp_path / "one")


def test_finish_without_parts(source: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no part of it was begun"):
        finished(source, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_format_that_only_one_process_can_write(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PreallocatedWriter, "shared", False)
    with pytest.raises(UsageError, match=r"safetensors can't be made in parts: .*make it in one job, without --part"):
        made(source, tmp_path / "out", 1, 2)
    assert list(tmp_path.iterdir()) == []


def test_parts_that_are_begun_at_once_are_laid_out_once(source: Path, tmp_path: Path) -> None:
    """Whoever loses lets go of its own, and goes on in the other's."""
    real = Path.rename

    def overtaken(path: Path, to: Any) -> Path:
        if path.name.startswith(".out.convkit-parts.") and not shared_folder(tmp_path / "out").exists():
            with patch.object(Path, "rename", real):
                made(source, tmp_path / "out", 2, 2)
        return real(path, to)

    with patch.object(Path, "rename", overtaken):
        made(source, tmp_path / "out", 1, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".out.convkit-parts"]
    finished(source, tmp_path / "out")


def test_two_runs_of_a_part_at_the_same_time_do_no_harm(source: Path, tmp_path: Path) -> None:
    """One of them is believed dead, and writes on."""
    target, real, inner = tmp_path / "parts" / "out", shared.Journal.record, []

    def record(journal: shared.Journal, entry: dict[str, Any]) -> None:
        if not inner:
            inner.append(True)
            made(source, target, 1, 2)
        real(journal, entry)

    with short_ranges():
        with patch.object(shared.Journal, "record", record):
            made(source, target, 1, 2, threads=1)
        made(source, target, 2, 2)
        finished(source, target)
        converted(source, tmp_path / "one" / "out", MAPPING)
    the_same(tmp_path / "parts", tmp_path / "one")


def test_what_says_what_was_begun_is_checked(source: Path, tmp_path: Path) -> None:
    made(source, tmp_path / "out", 1, 2)
    (shared_folder(tmp_path / "out") / "parts.json").write_text(json.dumps({"schema": "convkit.parts/1"}))
    with pytest.raises(ConvkitError, match=r"parts.json: .*convkit"):
        made(source, tmp_path / "out", 2, 2)
