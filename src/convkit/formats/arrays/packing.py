"""Chunks of zarr arrays that need no codec of tensorstore's: unpacked ones, and gzip's.

tensorstore's own gzip isn't reproducible (0.1.86: about one small array in ten differs by a few bits at its end from
run to run); Python's zlib is. A shard is made as tensorstore makes it: its inner chunks one after another in C order,
then the start and the length of each, and a checksum of these.
"""

from __future__ import annotations

import itertools
import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from convkit.formats.arrays.in_memory import CRC32C, through
from convkit.formats.arrays.ranges import Box
from convkit.formats.arrays.zarr import ZarrArray
from convkit.formats.arrays.zarr2 import Zarray
from convkit.formats.arrays.zarr3 import Zarr3Array, is_shard_of_orbax

if TYPE_CHECKING:
    import numpy as np

#: zlib's window of 32 KiB, in a gzip container
_GZIP = 15 + 16
#: how zlib looks for what repeats: only runs of one byte, or everything in the window
_STRATEGIES = (zlib.Z_RLE, zlib.Z_DEFAULT_STRATEGY)
#: places of a chunk that are tried, and the bytes of each
_PLACES, _TRIED = 4, 16 << 10


def is_packed_here(zarray: ZarrArray) -> bool:
    """Whether chunks of this array are gzip's or unpacked, and of a kind that convkit writes."""
    if isinstance(zarray, Zarray):
        usual = zarray.order == "C" and not zarray.big_endian and not zarray.filters
    else:
        usual = isinstance(zarray, Zarr3Array) and is_shard_of_orbax(zarray)
    return usual and zarray.packing in (None, "gzip")


def packed_chunks(zarray: ZarrArray, box: Box, data: np.ndarray) -> Iterator[tuple[str, list[memoryview | bytes]]]:
    """Name and bytes, in pieces, of each chunk in a box of whole chunks; ``data`` has the box's shape.

    Pieces of unpacked chunks may be those of ``data`` itself.
    """
    corner = [side.start for side in box]
    for start in _starts(data.shape, zarray.chunks):
        position = [(low + at) // chunk for low, at, chunk in zip(corner, start, zarray.chunks, strict=True)]
        chunk = _whole(data, start, zarray.chunks)
        pieces = _shard(zarray, chunk) if isinstance(zarray, Zarr3Array) else [_packed(zarray, chunk)]
        yield zarray.chunk_name(position), pieces


def _shard(zarray: Zarr3Array, data: np.ndarray) -> list[memoryview | bytes]:
    parts = [_packed(zarray, _whole(data, start, zarray.decoded)) for start in _starts(data.shape, zarray.decoded)]
    return [*parts, shard_index([len(part) for part in parts])]


def shard_index(lengths: Sequence[int]) -> bytes:
    """What follows the inner chunks of a shard, which have these lengths and lie one after another."""
    starts = itertools.accumulate(lengths, initial=0)
    places = b"".join(struct.pack("<QQ", start, length) for start, length in zip(starts, lengths, strict=False))
    return through(CRC32C, places)


def _starts(shape: Sequence[int], chunks: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """The first element of each chunk, in C order."""
    return itertools.product(*(range(0, length, chunk) for length, chunk in zip(shape, chunks, strict=True)))


def _whole(data: np.ndarray, start: Sequence[int], chunks: Sequence[int]) -> np.ndarray:
    """One chunk, padded with zeros beyond the array's border."""
    import numpy as np

    part = data[tuple(slice(low, low + chunk) for low, chunk in zip(start, chunks, strict=True))]
    if part.shape == tuple(chunks):
        return part
    whole = np.zeros(chunks, part.dtype)  # all bits, where padding with the number 0 is something else
    whole[tuple(map(slice, part.shape))] = part
    return whole


def _packed(zarray: ZarrArray, chunk: np.ndarray) -> memoryview | bytes:
    import numpy as np

    plain = np.ascontiguousarray(chunk).reshape(-1).view(np.uint8).data
    if zarray.compressor is None:
        return plain
    level = zarray.compressor["level"]
    return _deflated(plain, level, _strategy(plain, level))


def _deflated(plain: memoryview | bytes, level: int, strategy: int) -> bytes:
    packer = zlib.compressobj(level, wbits=_GZIP, strategy=strategy)
    return packer.compress(plain) + packer.flush()


def _strategy(plain: memoryview, level: int) -> int:
    """The strategy that makes a sample of the chunk smallest.

    Weights and moments seldom repeat: at level 1, runs alone take a third of the time and leave up to 3 % less.
    """
    if plain.nbytes > _PLACES * _TRIED:
        starts = (plain.nbytes * place // _PLACES for place in range(_PLACES))
        sample: memoryview | bytes = b"".join(plain[start : start + _TRIED] for start in starts)
    else:
        sample = plain
    return min(_STRATEGIES, key=lambda strategy: len(_deflated(sample, level, strategy)))
