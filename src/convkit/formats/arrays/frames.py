"""Chunks that are packed by zstd, handed from one array to another as they are.

Both versions of zarr pack the same bytes: the elements of a chunk in C order, little-endian, filled up beyond the
array's border. Where two arrays have the same elements in the same chunks, what zstd made of one's chunk is what the
other stores, whatever the level: alone in version 2, followed by an index in Orbax's shards of version 3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from convkit.formats.arrays.packing import shard_index
from convkit.formats.arrays.zarr import ZarrArray
from convkit.formats.arrays.zarr2 import Zarray
from convkit.formats.arrays.zarr3 import Zarr3Array, is_shard_of_orbax

#: bytes of the smallest chunk, before it is packed, that is handed on: smaller ones are packed again in less time
LEAST = 64 << 10


def is_plain(zarray: ZarrArray) -> bool:
    """Whether what is packed, or stored unpacked, are elements as in memory: of a chunk, or of a shard's only chunk."""
    if isinstance(zarray, Zarray):
        return not zarray.filters and not zarray.big_endian and zarray.order == "C"
    # a shard of one inner chunk, as Orbax writes them
    return isinstance(zarray, Zarr3Array) and zarray.decoded == zarray.chunks and is_shard_of_orbax(zarray)


@dataclass(frozen=True)
class Frames:
    """The stored chunks of an array of which none is absent.

    Args:
        zarray: the array.
        read: yields the packed bytes of a chunk, by its name, in pieces.
    """

    zarray: ZarrArray
    read: Callable[[str], Iterable[bytes]]

    def fit(self, other: ZarrArray) -> bool:
        """Whether they may be chunks of another array."""
        one = self.zarray
        same = (one.spec, one.chunks) == (other.spec, other.chunks) and one.chunk_nbytes >= LEAST
        return same and all(array.packing == "zstd" and is_plain(array) for array in (one, other))

    def chunks(self, other: ZarrArray, numbers: range) -> Iterator[Iterator[bytes]]:
        """The bytes of another array's chunks that have these numbers in C order, in pieces."""
        for name in self.zarray.chunk_names(numbers.start, numbers.stop):
            yield self._pieces(name, sharded=isinstance(other, Zarr3Array))

    def _pieces(self, name: str, *, sharded: bool) -> Iterator[bytes]:
        length = 0
        for piece in self.read(name):
            yield piece
            length += len(piece)
        if sharded:
            yield shard_index([length])
