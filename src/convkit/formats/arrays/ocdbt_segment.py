"""The chunks of one array that lie together: in one data file, or, of a small array, in memory until they are logged.

Chunks lie in C order, whatever the order in which they are encoded. A thread that works through a segment in order (see
:meth:`Writer.stretch`) fills its file once; if several threads do, it is put in order when it is full.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable

from convkit.formats.arrays.chunk_encoder import Encoding
from convkit.formats.arrays.ocdbt_tree import DataFile


class Segment:
    """Takes the chunks ``[first, first + count)`` of an array, from any thread.

    Args:
        new_file: begins a data file; None for a small array.
    """

    def __init__(self, first: int, count: int, new_file: Callable[[], DataFile] | None) -> None:
        self._first = first
        self._count = count
        self._new_file = new_file
        self._file: DataFile | None = None
        #: by the chunk's number, in the order in which they came: bytes, or start and length in the file
        self._held: dict[int, bytes] = {}
        self._places: dict[int, tuple[int, int]] = {}
        self._queue: deque[Encoding] = deque()
        self._placing = threading.Lock()
        self._completing = threading.Lock()
        self._changed = threading.Condition()
        self._error: Exception | None = None
        self._added = 0
        #: whether its data file was given away
        self.told = False
        self._complete: tuple[list[int], bytes] | None = None

    @property
    def large(self) -> bool:
        """Whether it has a data file."""
        return self._new_file is not None

    @property
    def full(self) -> bool:
        """Whether all its chunks were added, so that its data file can be completed."""
        return self.large and self._added == self._count

    def add(self, encoding: Encoding) -> None:
        """Place chunks once they are encoded, after those that were added before; at once if they are there."""
        with self._changed:
            self._added += encoding.count
            self._queue.append(encoding)
        encoding.when_done(self._place)
        if encoding.future is None:  # another thread may be placing them
            with self._changed:
                self._changed.wait_for(lambda: encoding not in self._queue)

    def check(self) -> None:
        """Raise the error of a chunk that couldn't be encoded or placed.

        Raises:
            ValueError, OSError: there is one.
        """
        if self._error is not None:
            raise self._error

    def make_way(self, numbers: range) -> None:
        """Wait until these chunks, if they were added before, are placed: tensorstore makes one of writes that meet."""

        def meets(one: Encoding) -> bool:
            return one.first < numbers.stop and numbers.start < one.first + one.count

        with self._changed:
            self._changed.wait_for(lambda: not any(map(meets, self._queue)))

    def wait(self) -> None:
        """Wait until what was added is placed."""
        with self._changed:
            self._changed.wait_for(lambda: not self._queue)

    def complete(self) -> tuple[list[int], bytes] | None:
        """Wait, and return the lengths of all chunks, and the name of their file, or a small array's bytes.

        None if chunks are missing. Once it isn't, nothing is added any more.

        Raises:
            ValueError, OSError: a chunk couldn't be encoded or placed.
        """
        self.wait()
        self.check()
        with self._completing:
            self._complete = self._complete or self._completed()
            return self._complete

    def _completed(self) -> tuple[list[int], bytes] | None:
        order = range(self._first, self._first + self._count)
        if self._new_file is None:
            if len(self._held) < self._count:
                return None
            chunks = [self._held[number] for number in order]
            return [*map(len, chunks)], b"".join(chunks)
        if len(self._places) < self._count or self._file is None:
            return None
        lengths = [self._places[number][1] for number in order]
        if [start for start, _ in self._places.values()] != _starts(lengths) or [*self._places] != [*order]:
            self._put_in_order(order)
        return lengths, self._file.complete().encode()

    def close(self) -> None:
        """Wait, and close the file."""
        self.wait()
        if self._file is not None:
            self._file.close()

    def _place(self) -> None:
        """Place what is encoded and first in the queue; another thread that does so already sees to the rest."""
        while self._queue and self._queue[0].done() and self._placing.acquire(blocking=False):
            try:
                while self._queue and self._queue[0].done():
                    self._place_first()
            finally:
                self._placing.release()

    def _place_first(self) -> None:
        encoding = self._queue[0]
        try:
            self.check()
            if encoding.future is not None:
                encoding.future.result()
            for number, pieces in enumerate(encoding.chunks(), encoding.first):
                self.put(number, pieces)
        except Exception as error:  # in a thread of tensorstore's: told by the next call
            self._error = error
        finally:
            encoding.give_back()
            with self._changed:
                self._queue.popleft()
                self._changed.notify_all()

    def put(self, number: int, pieces: Iterable[bytes | memoryview]) -> None:
        """Take the bytes of a chunk, for one thread at a time."""
        if self._new_file is None:
            self._held[number] = b"".join(pieces)
            return
        if self._file is None:
            self._file = self._new_file()
        self._places[number] = self._file.append(pieces)

    def _put_in_order(self, order: range) -> None:
        """Copy the chunks into another file, in order."""
        assert self._file is not None
        assert self._new_file is not None
        with self._file as mixed:
            self._file = self._new_file()
            for number in order:
                self._file.append([mixed.read(*self._places[number])])
        mixed.path.unlink()


def _starts(lengths: list[int]) -> list[int]:
    starts, at = [], 0
    for length in lengths:
        starts.append(at)
        at += length
    return starts
