"""Progress: a bar on a terminal, in a log a line every ten seconds, and nothing for work shorter than that."""

import os
import pty
import re
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from recorded import HERE

from convkit.cli import main, output
from convkit.cli.output import progress, steps
from convkit.files.receipt import read_receipt
from convkit.formats import open_checkpoint
from convkit.generate.old_mdl import write_old
from convkit.migrate.orbax import checks
from convkit.migrate.orbax.migrate import migrate
from convkit.migrate.orbax.request import Request
from convkit.verify.diff import diff
from convkit.verify.receipts import verify
from convkit.verify.repaired import repaired
from convkit.verify.roundtrip.check import roundtrip

LLAMA = HERE / "llama_gqa" / "hf"


class Clock:
    """Stands in for the module ``time``: seconds pass when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(output, "time", clock)
    return clock


@contextmanager
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], str]]:
    """Make standard error a terminal; what is called ends that, and returns what was shown."""
    ours, theirs = pty.openpty()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    stderr = os.fdopen(theirs, "w")
    shown: list[bytes] = []
    reader = threading.Thread(target=lambda: shown.extend(iter(lambda: read(ours), b"")))
    reader.start()

    def ended() -> str:
        stderr.close()
        reader.join()
        return b"".join(shown).decode()

    try:
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stderr", stderr)
            yield ended
    finally:
        ended()
        os.close(ours)


def read(terminal: int) -> bytes:
    """What was written to a terminal meanwhile; nothing once nobody can write to it any more."""
    try:
        return os.read(terminal, 1 << 12)
    except OSError:
        return b""


def test_a_line_every_ten_seconds(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress("a -> b") as advance:
        for second in range(25):
            clock.now = 100.0 + second
            advance(second * 1_000_000, 30_000_000)
    out, err = capsys.readouterr()
    assert err.splitlines() == [
        "a -> b: 10.0 MB of 30.0 MB, 1.0 MB/s, 20 s left",
        "a -> b: 20.0 MB of 30.0 MB, 1.0 MB/s, 10 s left",
    ]
    assert not out


def test_what_an_earlier_run_had_done_says_nothing_about_the_rate(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress("a") as advance:
        advance(50_000_000, 80_000_000)
        clock.now += 10
        advance(60_000_000, 80_000_000)
    assert capsys.readouterr().err == "a: 60.0 MB of 80.0 MB, 1.0 MB/s, 20 s left\n"


def test_a_total_that_is_not_known_and_a_second_part(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress("a") as advance:
        for done, total, label in ((0, None, "one"), (10_000_000, None, "two"), (0, 100, "three"), (10, 100, "three")):
            advance(done, total, label)
            clock.now += 10
    assert capsys.readouterr().err.splitlines() == [
        "a: two, 10.0 MB, 1.0 MB/s",
        "a: three, 0 B of 100 B, 0 B/s",
        "a: three, 10 B of 100 B, 1 B/s, 90 s left",
    ]


def test_a_line_names_the_step(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with steps("a, b") as advance:
        for second in range(0, 14, 2):
            clock.now = 100.0 + second
            advance(second, 40.0, f"stage layers.{second} ({second} of 40), fault swap q and k")
    assert capsys.readouterr().err == "a, b: stage layers.10 (10 of 40), fault swap q and k, 25%, 30 s left\n"


def test_short_work_is_silent_in_a_log(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("a") as advance:
        advance(1, 1)
    with steps("a") as on:
        on(1, 1, "all")
    assert capsys.readouterr() == ("", "")


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with terminal(monkeypatch) as shown:
        with progress("[a] {b}") as advance:
            advance(10_000_000, 40_000_000, "one of two")
            advance(0, 8_000_000, "two of two")
            advance(2_000_000, 8_000_000, "two of two")
            print("on standard output")
        text = shown()
    assert "[a] {b}" in text
    assert "2.0/8.0 MB" in text
    assert "two of two" in text
    assert text.endswith("\x1b[2K")  # the bar goes when the work is done
    assert capsys.readouterr().out == "on standard output\n"


def test_a_bar_names_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    with terminal(monkeypatch) as shown:
        with steps("a") as advance:
            advance(6, 8.0, "stage layers.7 (9 of 26)")
        text = shown()
    assert "75%" in text
    assert "stage layers.7 (9 of 26)" in text


class Seen(list[tuple[int, int]]):
    """What a function reported; the sums only grow, and end at the total."""

    def __call__(self, done: int, total: int) -> None:
        self.append((done, total))

    def parts(self) -> list[int]:
        """The total of each part of the work, once it is shown that the part was reported from its start to its end."""
        starts = [0, *(n for n in range(1, len(self)) if self[n][0] < self[n - 1][0]), len(self)]
        for start, stop in pairwise(starts):
            assert self[stop - 1][0] == self[stop - 1][1]
            assert len({total for _, total in self[start:stop]}) == 1
        return [self[start][1] for start in starts[:-1]]


def nbytes(path: Path) -> int:
    with open_checkpoint(path) as checkpoint:
        return sum(leaf.spec.nbytes for leaf in checkpoint.leaves.values() if leaf.spec)


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("converted") / "cs.mdl"
    assert main(["convert", str(LLAMA), str(target), "--to", "cerebras/llama", "--format", "cerebras-h5"]) == 0
    return target


def test_diff_counts_the_bytes_of_both(tmp_path: Path) -> None:
    seen = Seen()
    assert diff(LLAMA, LLAMA, progress=seen).passed
    assert seen.parts() == [2 * nbytes(LLAMA)]


def test_verify_counts_what_it_digests(converted: Path) -> None:
    seen = Seen()
    assert verify(converted, progress=seen).passed
    kept = sum(path.stat().st_size > 0 and nbytes(path) for path in converted.parent.glob("*complement*.safetensors"))
    written = (read_receipt(converted) or {})["written"]
    leaf_bytes = [span for file in written for span in file.get("leaf_bytes", [])]
    rest = sum(file["bytes"] for file in written) - sum(stop - start for start, stop in leaf_bytes)
    assert seen.parts() == [nbytes(converted) + kept + rest]


def test_roundtrip_counts_what_it_compares_and_what_it_keeps(converted: Path, tmp_path: Path) -> None:
    receipt, seen = read_receipt(converted), Seen()
    assert receipt
    assert roundtrip(LLAMA, converted, receipt["plan"], receipt=receipt, progress=seen).passed
    (compared,) = seen.parts()
    assert compared >= nbytes(LLAMA)
    seen.clear()
    verdict = roundtrip(LLAMA, converted, receipt["plan"], receipt=receipt, keep=tmp_path / "kept", progress=seen)
    assert verdict.passed
    assert seen.parts() == [nbytes(LLAMA), compared]


def test_a_repair_and_its_check(tmp_path: Path) -> None:
    source, target, seen = tmp_path / "old.mdl", tmp_path / "new.mdl", Seen()
    write_old(source, {"model": {"w": np.ones((8, 4), "f4")}, "lr_scheduler": {"last_epoch": 1}}, "1.7", [])
    assert main(["cerebras", "fix-checkpoint-spec", str(source), "--fixed_checkpoint_path", str(target)]) == 0
    assert repaired(source, target, read_receipt(target) or {}, progress=seen).passed
    assert seen.parts() == [nbytes(source)]


def test_the_checks_of_a_migration(tmp_path: Path) -> None:
    pytest.importorskip("orbax.checkpoint")
    source, target, seen = tmp_path / "v0", tmp_path / "v1", Seen()
    assert main(["fetch", "generated://orbax-v0", str(source)]) == 0
    migrate(source, target, Request("v1"), restored=False)
    assert verify(target, progress=seen).passed
    files = [path for path in target.rglob("*") if path.is_file()]
    assert seen.parts() == [sum(path.stat().st_size for path in files)]
    seen.clear()
    assert checks.roundtrip(source, target, read_receipt(target) or {}, progress=seen).passed
    assert seen.parts() == [sum(path.stat().st_size for path in source.rglob("*") if path.is_file())]


@pytest.fixture
def commands(converted: Path, tmp_path: Path) -> dict[str, list[str]]:
    """Commands that read whole checkpoints, by what their lines begin with."""
    shutil.copytree(LLAMA, tmp_path / "source")
    write_old(tmp_path / "old.mdl", {"model": {"w": np.ones(4, "f4")}, "global_step": 1}, "1.7", [])
    old, new = str(tmp_path / "old.mdl"), str(tmp_path / "new.mdl")
    return {
        f"fetch {tmp_path / 'here'}": ["fetch", str(tmp_path / "source"), str(tmp_path / "here")],
        f"inspect {LLAMA}": ["inspect", "--digest", str(LLAMA)],
        f"diff {LLAMA} {LLAMA}": ["diff", str(LLAMA), str(LLAMA)],
        f"verify {converted}": ["verify", str(converted)],
        f"roundtrip {converted}": ["roundtrip", str(LLAMA), str(converted)],
        f"{old} -> {new}": ["cerebras", "fix-checkpoint-spec", old, "--fixed_checkpoint_path", new, "--copy-healthy"],
    }


def test_commands_say_in_a_log_how_far_they_are(
    commands: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(output, "_EVERY", 0.0)
    for what, argv in commands.items():
        capsys.readouterr()
        assert main(argv) == 0
        lines = capsys.readouterr().err.splitlines()
        assert all(line.startswith(f"{what}: ") for line in lines)
        found = re.search(r"([\d.]+ \w+) of ([\d.]+ \w+), ", lines[-1])
        assert found and found[1] == found[2], lines[-1]
