"""Progress: a bar on a terminal, in a log a line every ten seconds, and nothing for work shorter than that."""

import os
import pty
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from convkit.cli import output
from convkit.cli.output import progress, steps


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
    """Make standard error a terminal; what is called returns what that shows, once the work is over."""
    ours, theirs = pty.openpty()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    with os.fdopen(theirs, "w") as stderr, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", stderr)
        os.set_blocking(ours, False)
        yield lambda: os.read(ours, 1 << 20).decode()
    os.close(ours)


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
