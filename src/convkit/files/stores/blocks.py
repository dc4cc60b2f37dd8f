"""Bytes of objects, read ahead in blocks by a few threads, and kept in bounded memory until they are asked for.

Each block is requested once while it is kept, whoever asks for it. Objects are mostly read from start to end by several
threads, each at a place of its own: so where the block before was asked for, the next ones are requested, too.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor

from convkit.files.stores.store import Store

#: requests at a time
THREADS = 8

_Key = tuple[Store, str, int]


class Blocks:
    """The blocks of all stores. Thread-safe.

    Args:
        size: bytes of a block.
        ahead: blocks that are requested before they are asked for.
        kept: blocks that are kept.
    """

    def __init__(self, size: int, *, ahead: int, kept: int) -> None:
        self._size, self._ahead, self._kept = size, ahead, kept
        self._lock = threading.Lock()
        self._held: OrderedDict[_Key, Future[bytes]] = OrderedDict()
        self._threads: ThreadPoolExecutor | None = None

    def fill(self, store: Store, path: str, offset: int, into: memoryview) -> int:
        """Fill a buffer with bytes from an offset on; returns how many there were.

        Raises:
            ConvkitError: they can't be read.
        """
        size, filled = store.pinned(path).size, 0
        stop = min(size, offset + len(into))
        while offset < stop:
            number = offset // self._size
            block = self._block(store, path, number, last=(stop - 1) // self._size, size=size)
            part = memoryview(block)[offset - number * self._size :][: stop - offset]
            into[filled : filled + len(part)] = part
            filled += len(part)
            offset += len(part)
        return filled

    def _block(self, store: Store, path: str, number: int, *, last: int, size: int) -> bytes:
        """A block of an object of ``size`` bytes; those up to the ``last`` will be asked for next."""
        with self._lock:
            if (store, path, number - 1) in self._held:
                last = max(last, number + self._ahead)
            last = min(last, number + THREADS, (size - 1) // self._size)
            wanted = [self._future(store, path, each, size) for each in range(number, last + 1)]
            self._drop()
        try:
            return wanted[0].result()
        except BaseException:
            with self._lock:
                for each in [key for key in self._held if key[:2] == (store, path)]:
                    self._held.pop(each).cancel()
            raise

    def _future(self, store: Store, path: str, number: int, size: int) -> Future[bytes]:
        key = (store, path, number)
        if key in self._held:
            self._held.move_to_end(key)
        else:
            if self._threads is None:
                self._threads = ThreadPoolExecutor(THREADS, "store")
            start = number * self._size
            self._held[key] = self._threads.submit(store.read, path, start, min(size, start + self._size))
        return self._held[key]

    def _drop(self) -> None:
        """Drop the blocks that weren't asked for longest, except those that are on their way."""
        for key in [key for key, each in self._held.items() if each.done()][: max(0, len(self._held) - self._kept)]:
            del self._held[key]


#: of tensors, for stores have a high latency and a high bandwidth: 16 are kept on a small machine, 128 MiB
BLOCKS = Blocks(8 << 20, ahead=2, kept=4 * max(4, os.cpu_count() or 1))
#: of what is read at many places, a few bytes at each: 32 MiB are kept
PAGES = Blocks(64 << 10, ahead=0, kept=512)
