"""Report how far work on the bytes of checkpoints is."""

from __future__ import annotations

import threading
from collections.abc import Callable

#: called with the number of bytes done, and the total
Progress = Callable[[int, int], None]


class Meter:
    """Counts the bytes that any thread has done, and reports the sum.

    Args:
        total: the bytes of all the work.
        progress: called with each new sum, by one thread at a time; None to report nothing.
    """

    def __init__(self, total: int, progress: Progress | None) -> None:
        self._total, self._progress = total, progress
        self._done = 0
        self._lock = threading.Lock()

    def __call__(self, nbytes: int) -> None:
        """Count bytes that are done."""
        if self._progress is not None:
            with self._lock:
                self._done += nbytes
                self._progress(self._done, self._total)


def unmeasured(_: int) -> None:
    """Count nothing, where a :class:`Meter` may be given and isn't."""
