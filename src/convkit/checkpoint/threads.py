"""Threads for work on many tensors or files; where there is little to do, the calling thread does it itself.

Handing a tensor of a few kilobytes to another thread takes longer than digesting it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

from convkit.checkpoint.source_files import Ranged

#: up to so many bytes are little
LITTLE = 4 << 20
#: calls that are given to threads at a time
AHEAD = 4096
#: requests of a store at a time, of those that bring few bytes
REQUESTS = 16


def workers(threads: int | None, nbytes: int) -> Executor:
    """An executor for work on ``nbytes``, used as a context.

    Args:
        threads: how many threads, if there is much to do; None for a few more than there are cores.
        nbytes: of all the work.
    """
    return Caller() if threads == 1 or nbytes <= LITTLE else _Threads(threads)


def openers(place: Path) -> Executor:
    """An executor for opening many files of a place: many at a time in a store, which takes its time to answer."""
    return ThreadPoolExecutor(REQUESTS, "open") if isinstance(place, Ranged) else Caller()


class _Threads(ThreadPoolExecutor):
    """Threads to which little work is given ahead: what waits takes more than a kilobyte each, leaves are 500,000."""

    def map(self, fn: Callable[..., Any], *iterables: Iterable[Any], **_: Any) -> Iterator[Any]:
        """What is done, in order, as it is asked for: some thousands ahead, and no more."""
        each = zip(*iterables, strict=False)
        while some := [*islice(each, AHEAD)]:
            yield from super().map(fn, *zip(*some, strict=True))


class Caller(Executor):
    """Does in the calling thread, which gets the errors, what is submitted; what is mapped, once it is needed."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """What has been done by now."""
        done: Future[Any] = Future()
        done.set_result(fn(*args, **kwargs))
        return done

    def map(self, fn: Callable[..., Any], *iterables: Any, **_: Any) -> Iterator[Any]:
        """What is done one by one as it is asked for."""
        return map(fn, *iterables)
