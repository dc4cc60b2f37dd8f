"""Bytes of one chunk in a store of tensorstore's, read piece by piece: a file, a database's entry, an object."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from convkit.formats.arrays.zarr import ZarrArray
from convkit.formats.arrays.zarr3 import Zarr3Array

if TYPE_CHECKING:
    import tensorstore

#: bytes of a request
STORED_PIECE = 1 << 20
#: at the end of a shard of one inner chunk: its start and its length, and a checksum of these
_INDEX, _INDEX_BYTES = struct.Struct("<QQ"), 20
#: what the index says of an inner chunk that isn't stored
_ABSENT = 2**64 - 1


class StoredBytes:
    """A range of a value, read in order. For one thread at a time."""

    def __init__(self, store: tensorstore.KvStore, name: str, start: int = 0, stop: int | None = None) -> None:
        self._store = store
        self._name = name
        self._start, self._stop = start, stop
        self._at = 0
        self._held = memoryview(b"")

    def read(self, size: int, /) -> bytes:
        """At most so many bytes; none at the end."""
        if not self._held:
            piece = self._next()
            self._at += len(piece)
            if len(piece) <= size:
                return piece
            self._held = memoryview(piece)
        data, self._held = bytes(self._held[:size]), self._held[size:]
        return data

    def seek(self, position: int, /) -> int:
        """Go on from there."""
        self._at, self._held = position, memoryview(b"")
        return position

    def close(self) -> None:
        """Release what is held."""
        self._held = memoryview(b"")

    def _next(self) -> bytes:
        low = self._start + self._at
        if self._stop is not None:
            high = min(low + STORED_PIECE, self._stop)
            return self._range(low, high) if low < high else b""
        try:
            return self._range(low, low + STORED_PIECE)
        except ValueError:  # the value is shorter
            return self._range(low, None)

    def _range(self, low: int, high: int | None) -> bytes:
        found: bytes = self._store.read(self._name, byte_range=slice(low, high)).result().value
        return found


def stored_bytes(store: tensorstore.KvStore, name: str, zarray: ZarrArray) -> StoredBytes | None:
    """The bytes of a chunk, or of the only inner chunk of a shard; None if it isn't stored.

    Raises:
        ValueError: they can't be read.
    """
    shard = isinstance(zarray, Zarr3Array)
    found = store.read(name, byte_range=slice(-_INDEX_BYTES if shard else 0, None if shard else 0)).result()
    if found.state != "value":
        return None
    if not shard:
        return StoredBytes(store, name)
    start, length = _INDEX.unpack_from(found.value)
    return None if start == length == _ABSENT else StoredBytes(store, name, start, start + length)
