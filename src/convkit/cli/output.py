"""Print tables, sizes, one JSON document, and progress."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from convkit.errors import UsageError
from convkit.report.text import size

if TYPE_CHECKING:
    from rich.progress import ProgressColumn

#: called with the part that is done, the whole, and what is being done now
Steps = Callable[[float, float, str], None]

#: seconds between two lines of progress in a log
_EVERY = 10.0

_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30}


def emit(document: Any) -> None:
    """Print one JSON document."""
    from convkit.files.document import as_json

    shows_all = (sys.stdout.encoding or "").lower().startswith("utf")  # else what it can't show is escaped
    print(json.dumps(as_json(document), indent=1, ensure_ascii=not shows_all))


def table(rows: Sequence[Sequence[object]]) -> None:
    """Print rows in columns."""
    widths = [max(len(str(row[n])) for row in rows) for n in range(len(rows[0]))] if rows else []
    for row in rows:
        print("  ".join(str(cell).ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


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
    if not sys.stderr.isatty():
        yield _LogLines(what, _share)
        return
    from rich.progress import BarColumn, TaskProgressColumn, TimeRemainingColumn

    # a step may take minutes, so the remaining time follows from those of the last hour
    with _bar(what, BarColumn(), TaskProgressColumn(), TimeRemainingColumn(), period=3600.0) as advance:
        yield advance


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
        task = bar.add_task(what, total=None, label="")

        def advance(done: float, total: float | None, label: str = "") -> None:
            if done < bar.tasks[0].completed:  # the next part of the work begins
                bar.reset(task)
            bar.update(task, completed=done, total=total, label=label)

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
        print(f"{self._what}: {said}", file=sys.stderr, flush=True)


def _bytes(done: float, total: float | None, rate: float) -> str:
    return f"{size(done)}{'' if total is None else f' of {size(total)}'}, {size(rate)}/s"


def _share(done: float, total: float | None, _: float) -> str:
    return f"{done / total:.0%}" if total else ""
