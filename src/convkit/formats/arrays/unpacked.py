"""Unpacks chunks of zarr arrays of version 2, never beyond the length that their array says.

tensorstore unpacks a chunk of gzip, zlib or bz2 as a whole before it looks at the length: two megabytes can stand for
two gigabytes, and nothing but unpacking shows it. zstd's and blosc's chunks say how long they are
(:mod:`~convkit.formats.arrays.whole_chunks`).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convkit.errors import ConvkitError
from convkit.formats.arrays.chunk_stream import WINDOWS, unpacker, unpacking_errors
from convkit.formats.arrays.ranges import Box, boxes
from convkit.formats.arrays.zarr import REFETCH, ZarrArray
from convkit.formats.arrays.zarr2 import Zarray

if TYPE_CHECKING:
    import numpy as np

#: a packed chunk of so many bytes is unpacked without a check: deflate packs 1032 bytes into one at most
_HARMLESS = 1 << 18
PACKINGS = (*WINDOWS, "bz2")


def is_unpacked_here(zarray: ZarrArray) -> bool:
    """Whether chunks of this array are unpacked by this module, and hold elements as in memory."""
    return isinstance(zarray, Zarray) and zarray.packing in PACKINGS and not zarray.filters and not zarray.big_endian


def chunk_bytes(data: bytes, zarray: ZarrArray, path: Path, key: str) -> bytes:
    """The bytes of a packed chunk.

    Raises:
        ConvkitError: damaged, or longer or shorter than a chunk of the array.
    """
    expected = zarray.chunk_nbytes
    opened = unpacker(str(zarray.packing))
    try:
        made: bytes = opened.decompress(data, expected + 1)
    except unpacking_errors() as error:
        raise ConvkitError(f"can't be read: {error}", path=path, key=key, remedy=REFETCH) from None
    if len(made) != expected or not opened.eof:
        more = "over " if len(made) > expected else ""
        problem = f"is no whole chunk: it unpacks to {more}{min(len(made), expected)} bytes of {expected}"
        raise ConvkitError(problem, path=path, key=key, remedy=REFETCH)
    return made


def read(zarray: Zarray, folder: Path, key: str, bounds: tuple[int, int], threads: Executor) -> np.ndarray | None:
    """Elements between bounds that are those of whole chunks, in C order: 1-D, carrier dtype; None if a chunk isn't
    stored.

    Raises:
        ConvkitError: a chunk can't be read or unpacked.
    """
    import numpy as np

    from convkit.checkpoint.tensors import carrier

    start, stop = bounds
    kind = carrier(zarray.spec.dtype)
    data = np.empty(stop - start, kind)
    at = 0
    for box in boxes(zarray.spec.shape, start, stop):
        lengths = [side.stop - side.start for side in box]
        into = data[at : at + math.prod(lengths)].reshape(lengths)
        at += into.size

        def place(corner: tuple[int, ...], box: Box = box, into: Any = into) -> bool:
            position = [low // chunk for low, chunk in zip(corner, zarray.chunks, strict=True)]
            path = folder / zarray.chunk_name(position)
            try:
                packed = path.read_bytes()
            except FileNotFoundError:
                return False
            chunk = np.frombuffer(chunk_bytes(packed, zarray, path, key), kind)
            inside = [
                slice(low - side.start, min(low + length, side.stop) - side.start)
                for low, side, length in zip(corner, box, zarray.chunks, strict=True)
            ]
            whole = chunk.reshape(zarray.chunks, order="F" if zarray.order == "F" else "C")
            into[tuple(inside)] = whole[tuple(slice(0, part.stop - part.start) for part in inside)]
            return True

        if not all(threads.map(place, _corners(box, zarray.chunks))):
            return None
    return data


def check(zarray: Zarray, folder: Path, key: str, bounds: tuple[int, int], seen: set[Path]) -> None:
    """Check the chunks of a range that tensorstore is about to unpack, and that can be too long, once each.

    Args:
        zarray: the array.
        folder: of its chunks.
        key: the leaf's.
        bounds: the range's first element, and the one after its last.
        seen: the chunks that were checked; filled.

    Raises:
        ConvkitError: a chunk can't be unpacked, or is longer than a chunk of the array.
    """
    for box in boxes(zarray.spec.shape, *bounds):
        whole = tuple(
            slice(side.start - side.start % chunk, side.stop) for side, chunk in zip(box, zarray.chunks, strict=True)
        )
        for corner in _corners(whole, zarray.chunks):
            position = [low // chunk for low, chunk in zip(corner, zarray.chunks, strict=True)]
            path = folder / zarray.chunk_name(position)
            if path in seen or not path.is_file():
                continue
            if zarray.packing == "bz2" or path.stat().st_size > _HARMLESS:
                chunk_bytes(path.read_bytes(), zarray, path, key)
            seen.add(path)


def _corners(box: Box, chunks: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """The first element of each chunk of a box of whole chunks."""
    return itertools.product(*(range(side.start, side.stop, chunk) for side, chunk in zip(box, chunks, strict=True)))
