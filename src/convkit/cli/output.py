"""Print tables, sizes, one JSON document, and progress."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from convkit.cli.volume import VOLUME
from convkit.errors import UsageError, visible
from convkit.report.text import size

if TYPE_CHECKING:
    from rich.progress import ProgressColumn

#: called with the part that is done, the whole, and what is being done now
Steps = Callable[[float, float, str], None]

#: seconds between two lines of progress in a log
_EVERY = 10.0

_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30}


def emit(document: Any) -> None:
    """Print one JSON document: an object entry by entry, because that of a huge plan has millions of lines."""
    if not isinstance(document, dict) or not document:
        print(_indented(document))
        return
    for number, (name, value) in enumerate(document.items()):
        sys.stdout.write((",\n" if number else "{\n") + _indented({name: value})[2:-2])
    print("\n}")


def _indented(value: Any) -> str:
    """A value as lines of JSON."""
    import msgspec

    text = _compact(value)
    try:
        return msgspec.json.format(text, indent=1)  # as json.dumps does it, in a tenth of the time
    except msgspec.DecodeError:  # of a file's name that isn't Unicode
        return json.dumps(json.loads(text), indent=1)


def _compact(value: Any) -> str:
    """A value as a line of JSON."""
    from convkit.files.document import as_json
    from convkit.files.long_document import plain

    shows_all = (sys.stdout.encoding or "").lower().startswith("utf")  # else what it can't show is escaped
    try:
        text = json.dumps(value, ensure_ascii=not shows_all, allow_nan=False, default=plain)
    except ValueError:  # some number isn't finite
        value = as_json(value)
        text = json.dumps(value, ensure_ascii=not shows_all, default=plain)
    return text if visible(text) == text else json.dumps(value, default=plain)


def few_of(names: Sequence[str], few: int) -> str:
    """A few of several names, and how many more there are."""
    shown = VOLUME.shown(names, few)
    return ", ".join(shown) + (f" and {len(names) - len(shown)} more" if len(shown) < len(names) else "")


def say(*lines: str) -> None:
    """Print lines of a result; what a terminal wouldn't show is escaped."""
    if not VOLUME.quiet:
        for line in lines:
            print(visible(line))


def note(text: str) -> None:
    """Print a line to standard error, such as a warning."""
    print(f"convkit: {visible(text)}", file=sys.stderr, flush=True)


def script(text: str) -> None:
    """Print a text that another program reads, as it is."""
    print(text)


def ask(question: str) -> str:
    """Ask on standard error, and read a line of standard input; empty at its end."""
    print(visible(question), end="", file=sys.stderr, flush=True)
    return sys.stdin.readline()


def table(rows: Sequence[Sequence[object]]) -> None:
    """Print rows in columns."""
    cells = [[visible(str(cell)) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    say(*("  ".join(map(str.ljust, row, widths)).rstrip() for row in cells))


def parse_size(text: str | None) -> int | None:
    """Parse a size: ``5GB``, ``500MB``, ``2GiB``, or bytes.

    Raises:
        UsageError: not a size.
    """
    if text is None:
        return None
    number = text.rstrip("bBkKmMgGiI ")
    unit = text[len(number) :].strip().lower()
    try:
        amount = float(number) * _UNITS[unit]
    except (ValueError, KeyError):
        amount = math.nan
    if not math.isfinite(amount):
        raise UsageError(f"{text!r} isn't a size", remedy="write 5GB, 500MB or 2GiB")
    if amount < 1:
        raise UsageError(f"{text!r} isn't a size", remedy="give at least one byte")
    return int(amount)


class Advance(Protocol):
    """What work on bytes calls again and again."""

    def __call__(self, done: int, total: int | None, label: str = "", /) -> None:
        """Show the bytes done, their total (None: not known), and the part of the work, if there are several."""


@contextmanager
def progress(what: str) -> Iterator[Advance]:
    """Show progress of work on bytes: a bar on a terminal, with rate and remaining time; else a line every ten seconds.

    Both go to standard error.
    """
    if VOLUME.quiet or VOLUME.still:
        yield _silent
        return
    if not sys.stderr.isatty():
        yield _LogLines(what, _bytes)
        return
    from rich.progress import BarColumn, DownloadColumn, TimeRemainingColumn, TransferSpeedColumn

    with _bar(what, BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()) as advance:
        yield advance


@contextmanager
def steps(what: str) -> Iterator[Steps]:
    """Show progress of work in named steps, as :func:`progress` does; done and total are in any unit of time or effort.

    The label names the step that begins: ``stage layers.7 (9 of 26), fault swap q and k``.
    """
    if VOLUME.quiet:
        yield _silent
        return
    if not sys.stderr.isatty():
        yield _LogLines(what, _share)
        return
    from rich.progress import BarColumn, TaskProgressColumn, TimeRemainingColumn

    # a step may take minutes, so the remaining time follows from those of the last hour
    with _bar(what, BarColumn(), TaskProgressColumn(), TimeRemainingColumn(), period=3600.0) as advance:
        yield advance


def _silent(done: float, total: float | None, label: str = "", /) -> None:
    """Show no progress."""


@contextmanager
def _bar(what: str, *columns: ProgressColumn, period: float = 30.0) -> Iterator[Callable[..., None]]:
    from rich.console import Console
    from rich.progress import Progress, TextColumn

    # names of files aren't markup
    what_column, label_column = (
        TextColumn(text, markup=False) for text in ("{task.description}", "{task.fields[label]}")
    )
    bar = Progress(
        what_column,
        *columns,
        label_column,
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=False,
        speed_estimate_period=period,
    )
    with bar:
        task = bar.add_task(visible(what), total=None, label="")

        def advance(done: float, total: float | None, label: str = "") -> None:
            if done < bar.tasks[0].completed:  # the next part of the work begins
                bar.reset(task)
            bar.update(task, completed=done, total=total, label=visible(label))

        yield advance


class _LogLines:
    """Progress for a log: few lines, each complete.

    Args:
        what: is being done.
        amount: describes the part that is done, the whole, and what is done in a second.
    """

    def __init__(self, what: str, amount: Callable[[float, float | None, float], str]) -> None:
        self._what, self._amount = what, amount
        self._printed = self._started = time.monotonic()
        self._done: float | None = None
        #: what an earlier run had done, which says nothing about the rate
        self._before = 0.0

    def __call__(self, done: float, total: float | None, label: str = "") -> None:
        now = time.monotonic()
        if self._done is None or done < self._done:
            self._before, self._started = done, now
        self._done = done
        if now - self._printed < _EVERY:
            return
        self._printed = now
        rate = (done - self._before) / max(now - self._started, 1e-9)
        left = f"{(total - done) / rate:.0f} s left" if rate and total is not None else ""
        said = ", ".join(filter(None, (label, self._amount(done, total, rate), left)))
        print(visible(f"{self._what}: {said}"), file=sys.stderr, flush=True)


def _bytes(done: float, total: float | None, rate: float) -> str:
    return f"{size(done)}{'' if total is None else f' of {size(total)}'}, {size(rate)}/s"


def _share(done: float, total: float | None, _: float) -> str:
    return f"{done / total:.0%}" if total else ""
