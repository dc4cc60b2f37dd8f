"""Print tables, sizes, one JSON document, and progress."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from convkit.errors import UsageError
from convkit.execute import Progress
from convkit.report.text import size

#: seconds between two lines of progress in a log
_EVERY = 10.0

_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30}


def emit(document: Any) -> None:
    """Print one JSON document."""
    print(json.dumps(document, indent=1, ensure_ascii=False))


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
        raise UsageError(f"{text!r} isn't a size", remedy="write 5GB, 500MB or 2GiB") from None
    if amount < 1:
        raise UsageError(f"{text!r} isn't a size", remedy="give at least one byte")
    return int(amount)


@contextmanager
def progress(what: str) -> Iterator[Progress]:
    """Show a bar with bytes, rate and remaining time on a terminal; a plain line every ten seconds in a log."""
    if not sys.stderr.isatty():
        yield _LogLines(what)
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.progress import (
        Progress as Bar,
    )

    columns = (TextColumn(what), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


class _LogLines:
    """Progress for a log: few lines, each complete."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.started = self.printed = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self.printed < _EVERY:
            return
        self.printed = now
        rate = done / (now - self.started)
        left = (total - done) / rate if rate else 0
        print(f"{self.what}: {size(done)} of {size(total)}, {size(rate)}/s, {left:.0f} s left", file=sys.stderr)
