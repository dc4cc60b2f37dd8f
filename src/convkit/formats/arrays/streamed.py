"""Reads ranges of arrays whose chunks are ranges of elements in C order, and can be decoded in slices.

A range that ends within a chunk leaves its decoder there, and the next range goes on: ranges that follow one another
decode nothing twice, and hold nothing but themselves.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING

from convkit.checkpoint.tensors import carrier
from convkit.formats.arrays.chunk_stream import PACKINGS, ChunkStream, Packed
from convkit.formats.arrays.frames import is_plain
from convkit.formats.arrays.zarr import ZarrArray

if TYPE_CHECKING:
    import numpy as np

#: decoders that wait within a chunk, each of them with the window of its compressor
_WAITING = 16


def is_streamed(zarray: ZarrArray) -> bool:
    """Whether chunks of an array are decoded in slices: of a known compressor alone, elements as in memory."""
    return is_plain(zarray) and zarray.packing in PACKINGS and _in_order(zarray.spec.shape, zarray.chunks)


def _in_order(shape: Sequence[int], chunks: Sequence[int]) -> bool:
    """Whether each chunk is a range of elements in C order, and the chunks follow one another.

    >>> [_in_order((4, 6), chunks) for chunks in ((2, 6), (3, 6), (9, 6), (1, 3), (1, 4), (2, 3), (2, 8))]
    [True, True, True, True, False, False, False]
    """
    rows = 1
    for axis, (length, chunk) in enumerate(zip(shape, chunks, strict=True)):
        if chunk > 1:
            return tuple(chunks[axis + 1 :]) == tuple(shape[axis + 1 :]) and (rows == 1 or length % chunk == 0)
        rows *= length
    return True


class Streams:
    """Decoders of chunks, and those that wait within one. Thread-safe.

    Args:
        opened: opens the stored bytes of a chunk: of the array of a key, by its name; None if it isn't stored.
    """

    def __init__(self, opened: Callable[[str, str], tuple[Packed, Path | str] | None]) -> None:
        self._opened = opened
        self._waiting: OrderedDict[tuple[str, int, int], ChunkStream] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, zarray: ZarrArray, key: str, start: int, stop: int, threads: Executor) -> np.ndarray | None:
        """Elements ``[start, stop)`` in C order: 1-D, carrier dtype; None if a chunk isn't stored.

        Raises:
            ConvkitError: a chunk can't be read or decoded.
        """
        import numpy as np

        data = np.empty(stop - start, carrier(zarray.spec.dtype))
        view = data.view(np.uint8).data
        length = _elements(zarray)
        width, size = data.itemsize, zarray.spec.size

        def decode(number: int) -> bool:
            first = number * length
            low, high = max(start, first), min(stop, first + length, size)
            stream = self._at(zarray, key, number, (low - first) * width)
            if stream is None:
                return False
            stream.readinto(view[(low - start) * width : (high - start) * width])
            if high == min(first + length, size):
                stream.end()
            else:
                self._leave(key, number, stream)
            return True

        return data if all(threads.map(decode, range(start // length, -(-stop // length)))) else None

    def close(self) -> None:
        """Release the decoders."""
        with self._lock:
            while self._waiting:
                self._waiting.popitem()[1].close()

    def _at(self, zarray: ZarrArray, key: str, number: int, position: int) -> ChunkStream | None:
        """A decoder at a position of a chunk: one that waits there or before, or else a new one."""
        with self._lock:
            there = [where for where in self._waiting if where[:2] == (key, number) and where[2] <= position]
            stream = self._waiting.pop(max(there)) if there else None
        if stream is None:
            name = next(zarray.chunk_names(number, number + 1))
            opened = self._opened(key, name)
            if opened is None:
                return None
            packed, path = opened
            stream = ChunkStream(packed, zarray.packing, zarray.chunk_nbytes, path, key)
        stream.skip(position)
        return stream

    def _leave(self, key: str, number: int, stream: ChunkStream) -> None:
        """Let a decoder wait; of two in one place, or of too many, one is closed."""
        where = key, number, stream.position
        with self._lock:
            out = self._waiting.pop(where, None)
            self._waiting[where] = stream
            if len(self._waiting) > _WAITING:
                out = self._waiting.popitem(last=False)[1]
        if out is not None:
            out.close()


def _elements(zarray: ZarrArray) -> int:
    """The elements of the array in one chunk; the last one may have fewer."""
    return max(1, math.prod(map(min, zarray.spec.shape, zarray.chunks)))
