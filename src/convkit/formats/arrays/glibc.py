"""What glibc keeps of freed memory, where the process runs with glibc."""

from __future__ import annotations

import contextlib
import ctypes

#: ``mallopt``'s parameters: number of heaps, smallest block that is mapped on its own, most that a heap's end keeps
_M_ARENA_MAX, _M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD = -8, -3, -1


def limit_heaps(count: int) -> None:
    """Limit the number of heaps: glibc makes one for each thread, and keeps freed memory in it (measured: 150 MiB)."""
    _tell(_M_ARENA_MAX, count)


def give_back_blocks(nbytes: int) -> None:
    """Make glibc return blocks of at least ``nbytes`` to the system when they are freed.

    glibc keeps freed blocks of up to 32 MiB for reuse, but compressed and decompressed chunks all differ in length, so
    most of that memory lies idle. The price is the time to map the pages again; so smaller blocks stay, some at a time:
    told the one limit, glibc leaves the other at 128 KiB.
    """
    _tell(_M_MMAP_THRESHOLD, nbytes)
    _tell(_M_TRIM_THRESHOLD, 4 * nbytes)


def _tell(parameter: int, value: int) -> None:
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(parameter, value)
