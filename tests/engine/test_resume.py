"""A conversion that was killed at any step and run again gives the same result, and mixes nothing."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

from convkit.checkpoint import threads
from convkit.errors import UsageError
from convkit.execute import conversion, runs
from convkit.files import staging
from convkit.files.staging import Staging
from convkit.formats.plain import preallocated
from convkit.mapping import LeftBehind, Rule, inverse
from convkit.mapping.ops import Pad
from convkit.testing import in_a_process_that_dies
from engine.disk import converted, everything_below, read, write
from engine.memory import Arrays, assert_same, mapping_of

#: padding that isn't the fill and an optimizer give a complement; tied names, a transposition, a stack
MAPPING = inverse(
    mapping_of(
        Rule(("embed", "head"), ("E", "H"), "v d -> v d", v="vocab", ops=(Pad(0, "padded"),)),
        Rule("l.{e}", "stacked", "e x y -> y e x"),
        Rule("up", "down", "x y -> y x"),
        Rule("same", "same"),
        LeftBehind("right", "optimizer.{rest:*}", "not the model"),
        names=["vocab", "padded"],
    )
)
CONFIG = {"vocab": 23, "padded": 32}
FORMATS = ["safetensors", "torch", "cerebras-h5"]


def arrays() -> Arrays:
    random = np.random.default_rng(0)
    left = {
        "E": random.standard_normal((32, 11)),
        "stacked": random.standard_normal((9, 3, 7)),
        "down": random.standard_normal((40, 30)),
        "same": random.standard_normal(50),
        "optimizer.mu": random.standard_normal((20, 10)),
    }
    left["H"] = left["E"].copy()
    return {key: array.astype("float32") for key, array in left.items()}


class Steps:
    """Everything that a conversion does to the disk, counted; at one of them the process dies."""

    PLACES = (
        (preallocated, "write_at"),
        (preallocated, "preallocate"),
        (Staging, "record"),
        (os, "fsync"),
        (Path, "replace"),
        (Path, "unlink"),
        (Path, "mkdir"),
        (Path, "write_text"),
    )

    def __init__(self, deadly: int | None = None, death: Callable[[], None] = lambda: os._exit(0)) -> None:
        self.count = 0
        self.deadly = deadly
        self.death = death
        self.lock = threading.Lock()

    @contextlib.contextmanager
    def counted(self) -> Iterator[None]:
        with ExitStack() as stack:
            for owner, name in self.PLACES:
                stack.enter_context(patch.object(owner, name, self._counting(getattr(owner, name))))
            stack.enter_context(patch.object(runs, "SLAB", 512))
            stack.enter_context(patch.object(threads, "LITTLE", 0))
            yield

    def _counting(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*args: Any, **kwargs: Any) -> Any:
            with self.lock:
                self.count += 1
                if self.count - 1 == self.deadly:
                    self.death()
            return real(*args, **kwargs)

        return step


def steps_of(source: Path, target: Path, format: str) -> int:
    """How many steps a conversion has that nothing disturbs."""
    steps = Steps()
    with steps.counted():
        converted(source, target, MAPPING, {"format": format}, threads=1)
    return steps.count


def killed(source: Path, target: Path, format: str, at: int, count: int = 1) -> None:
    def work() -> None:
        with Steps(at).counted():
            converted(source, target, MAPPING, {"format": format}, threads=count)

    in_a_process_that_dies(work)


def the_same(found: Path, expected: Path) -> None:
    """Byte by byte."""
    there, here = (
        {name: data for name, data in everything_below(folder).items() if ".convkit-part" not in name}
        for folder in (found, expected)
    )
    assert there == here


@pytest.mark.parametrize("format", FORMATS)
def test_killed_at_any_step_and_run_again(tmp_path: Path, format: str) -> None:
    source = write(tmp_path / "left", arrays(), CONFIG)
    plain = tmp_path / "plain"
    total = steps_of(source, plain / "out", format)
    assert total > 20
    resumed = 0
    for at in sorted({*range(0, total, max(1, total // 10)), *range(total - 12, total)}):
        target = tmp_path / f"killed{at}" / "out"
        killed(source, target, format, at)
        if target.exists():
            the_same(target.parent, plain)
            with pytest.raises(UsageError, match="exists"):
                converted(source, target, MAPPING, {"format": format})
            converted(source, target, MAPPING, {"format": format}, overwrite=True)
        else:
            resumed += converted(source, target, MAPPING, {"format": format})["resumed"]
        the_same(target.parent, plain)
    assert resumed > 5


@pytest.mark.parametrize("format", FORMATS)
def test_killed_several_times_with_threads(tmp_path: Path, format: str) -> None:
    source = write(tmp_path / "left", arrays(), CONFIG)
    plain, target = tmp_path / "plain", tmp_path / "killed" / "out"
    total = steps_of(source, plain / "out", format)
    for at in (total // 4, total // 3, total // 5):
        killed(source, target, format, at, count=3)
    converted(source, target, MAPPING, {"format": format})
    the_same(target.parent, plain)


@pytest.mark.parametrize("format", FORMATS)
def test_threads_change_no_byte(tmp_path: Path, format: str) -> None:
    source = write(tmp_path / "left", arrays(), CONFIG)
    with patch.object(runs, "SLAB", 512), patch.object(threads, "LITTLE", 0):
        for count in (1, 2, 4):
            converted(source, tmp_path / str(count) / "out", MAPPING, {"format": format}, threads=count)
    the_same(tmp_path / "2", tmp_path / "1")
    the_same(tmp_path / "4", tmp_path / "1")


def part_of(target: Path) -> Path:
    return target.with_name(f".{target.name}.convkit-part")


@pytest.fixture
def half_done(tmp_path: Path) -> tuple[Path, Path]:
    """A source, and a target at which a conversion was killed when some of its leaves were finished."""
    source = write(tmp_path / "left", arrays(), CONFIG)
    target = tmp_path / "right"
    killed(source, target, "safetensors", steps_of(source, tmp_path / "plain", "safetensors") * 2 // 3)
    assert len(journal(target)) > 2
    return source, target


def journal(target: Path) -> list[dict]:
    return [json.loads(line) for line in (part_of(target) / "journal.jsonl").read_text().splitlines()]


def test_finished_leaves_are_not_made_again(half_done: tuple[Path, Path]) -> None:
    source, target = half_done
    finished = {entry["key"] for entry in journal(target)[1:]}
    made = []
    real = Staging.record

    def noting(self: Staging, entry: dict) -> None:
        made.append(entry["key"])
        real(self, entry)

    with patch.object(Staging, "record", noting):
        receipt = converted(source, target, MAPPING)
    assert receipt["resumed"]
    assert finished
    assert not finished & set(made)


def test_the_receipt_of_a_resumed_run_is_complete(half_done: tuple[Path, Path], tmp_path: Path) -> None:
    source, target = half_done
    resumed, plain = converted(source, target, MAPPING), converted(source, tmp_path / "again", MAPPING)
    for part in ("source", "target", "complement", "plan"):
        assert resumed[part] | {"path": ""} == plain[part] | {"path": ""}


def test_another_plan_starts_afresh(half_done: tuple[Path, Path], tmp_path: Path) -> None:
    source, target = half_done
    other = {"dtype": "float16"}
    assert not converted(source, target, MAPPING, other)["resumed"]
    converted(source, tmp_path / "again", MAPPING, other)
    assert_same(read(target), read(tmp_path / "again"))


def test_a_changed_source_starts_afresh(half_done: tuple[Path, Path]) -> None:
    source, target = half_done
    changed = {key: -array for key, array in arrays().items()}
    write(source, changed, CONFIG)
    assert not converted(source, target, MAPPING)["resumed"]
    assert np.array_equal(read(target)["up"], changed["down"].T)


def other_model(source: Path) -> Path:
    """Put another model in the source's place, of which the system says the same."""
    before = {path: path.stat() for path in source.iterdir()}
    write(source, {key: -array for key, array in arrays().items()}, CONFIG)
    for path, status in before.items():
        assert path.stat().st_size == status.st_size
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    return source


def test_two_models_that_look_the_same_are_never_mixed(half_done: tuple[Path, Path], tmp_path: Path) -> None:
    source, target = half_done
    source = other_model(source)
    with patch.object(conversion, "identities", lambda files: ["the same"]):
        # the journal's head has what the system said of the first model
        head, *entries = journal(target)
        head["identity"]["source"] = ["the same"]
        lines = "".join(json.dumps(entry) + "\n" for entry in (head, *entries))
        (part_of(target) / "journal.jsonl").write_text(lines)
        receipt = converted(source, target, MAPPING)
    assert not receipt["resumed"]
    assert [
        line for line in receipt["warnings"] if "a killed run had made it of another source: started afresh" in line
    ]
    converted(source, tmp_path / "again", MAPPING)
    assert_same(read(target), read(tmp_path / "again"))


def test_what_was_finished_and_changed_since_is_made_again(half_done: tuple[Path, Path], tmp_path: Path) -> None:
    """Bytes of the staged file turn between the two runs."""
    source, target = half_done
    (staged,) = (part_of(target) / "out" / "right").glob("*.safetensors")
    data = bytearray(staged.read_bytes())
    data[-200:] = bytes(byte ^ 255 for byte in data[-200:])
    for start in range(len(data) // 2, len(data), 64):
        data[start] ^= 1
    staged.write_bytes(data)
    receipt = converted(source, target, MAPPING)
    assert not receipt["resumed"]
    assert [line for line in receipt["warnings"] if "had written has changed since: started afresh" in line]
    assert everything_below(target) == everything_below(tmp_path / "plain")


def test_nothing_is_resumed_after_the_machine_went_down(half_done: tuple[Path, Path], tmp_path: Path) -> None:
    """What was finished then lay in the page cache."""
    source, target = half_done
    with patch.object(staging, "_boot", lambda: "another"):
        assert not converted(source, target, MAPPING)["resumed"]
    assert everything_below(target) == everything_below(tmp_path / "plain")


def test_a_line_that_the_kill_cut_is_no_line(half_done: tuple[Path, Path], tmp_path: Path) -> None:
    source, target = half_done
    file = part_of(target) / "journal.jsonl"
    file.write_text(file.read_text()[:-5])
    assert converted(source, target, MAPPING)["resumed"]
    assert everything_below(target) == everything_below(tmp_path / "plain")


@pytest.fixture
def interruptible() -> Iterator[None]:
    """An interrupt arrives, also where the tests run in the background of a shell, which has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_keeps_what_was_done(tmp_path: Path) -> None:
    source = write(tmp_path / "left", arrays(), CONFIG)
    total = steps_of(source, tmp_path / "plain", "safetensors")
    interrupted = Steps(total // 2, lambda: signal.raise_signal(signal.SIGINT))
    with interrupted.counted(), pytest.raises(KeyboardInterrupt):
        converted(source, tmp_path / "right", MAPPING, threads=1)
    assert not (tmp_path / "right").exists()
    assert converted(source, tmp_path / "right", MAPPING)["resumed"]
    assert everything_below(tmp_path / "right") == everything_below(tmp_path / "plain")


def test_a_failure_keeps_nothing(tmp_path: Path) -> None:
    source = write(tmp_path / "left", arrays(), CONFIG)

    def fails() -> None:
        raise RuntimeError("a bug")

    with Steps(30, fails).counted(), pytest.raises(RuntimeError, match="a bug"):
        converted(source, tmp_path / "right", MAPPING)
    assert [path.name for path in tmp_path.iterdir()] == ["left"]


@pytest.mark.parametrize("version", ["0.0.1", None])
def test_what_another_version_had_begun_is_not_resumed_and_that_is_said(
    half_done: tuple[Path, Path], tmp_path: Path, version: str | None
) -> None:
    """Its leaves may be wrong: they are made again, though the plan and the source are the same."""
    source, target = half_done
    head, *entries = journal(target)
    head = {"identity": head["identity"]} if version is None else head | {"convkit": version}
    file = part_of(target) / "journal.jsonl"
    file.write_text("".join(json.dumps(entry) + "\n" for entry in (head, *entries)))
    for path in (part_of(target) / "out").rglob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:-4] + b"oops")
    receipt = converted(source, target, MAPPING)
    assert not receipt["resumed"]
    writer = "an earlier convkit" if version is None else "convkit 0.0.1"
    assert f"a run of {writer} can't be resumed: started afresh" in receipt["warnings"]
    assert everything_below(target) == everything_below(tmp_path / "plain")


def test_a_journal_of_another_form_is_not_resumed(half_done: tuple[Path, Path]) -> None:
    source, target = half_done
    with patch.object(staging, "JOURNAL_SCHEMA", "convkit.journal/0"):
        receipt = converted(source, target, MAPPING)
    assert not receipt["resumed"]
    assert [line for line in receipt["warnings"] if "can't be resumed" in line]


def test_of_a_run_that_is_resumed_nothing_is_said(half_done: tuple[Path, Path]) -> None:
    receipt = converted(*half_done, MAPPING)
    assert receipt["resumed"] and not [line for line in receipt["warnings"] if "resumed" in line]
