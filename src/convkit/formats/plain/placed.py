"""Tensors stored uncompressed in files, each at its place: read as they are asked for."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from convkit.checkpoint import Checkpoint, Leaf
from convkit.checkpoint.read import BLOCK
from convkit.checkpoint.source_files import SourceFiles
from convkit.checkpoint.tensors import carrier
from convkit.checkpoint.threads import workers
from convkit.errors import ConvkitError
from convkit.formats.arrays.ranges import boxes

if TYPE_CHECKING:
    import numpy as np

#: bytes that are read at once for a part of a strided tensor, though it needs fewer
_SPAN = 8 << 20


class Place(Struct, frozen=True):
    """A tensor's place: its file, the byte offset of its first element, byte strides (None: C order)."""

    file: Path
    offset: int
    strides: tuple[int, ...] | None = None


class Sum(Struct, frozen=True):
    """The CRC-32 that a file has of one of its records."""

    file: Path
    record: str
    start: int
    size: int
    crc: int


class PlacedCheckpoint(Checkpoint):
    """A checkpoint in which every tensor has a :class:`Place`. Files are opened when they are first read."""

    def __init__(
        self,
        path: Path,
        format: str,
        *,
        leaves: Mapping[str, Leaf],
        places: Mapping[str, Place],
        metadata: Mapping[str, Any],
        files: Sequence[Path],
        sums: Sequence[Sum] = (),
    ) -> None:
        self.path = path
        self.format = format
        self.leaves = dict(leaves)
        self.metadata = dict(metadata)
        self.places = dict(places)
        self._files = list(files)
        self._sums = list(sums)
        self._sources = SourceFiles()

    def read(self, key: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """See :meth:`Tensors.read`; a new array each time."""
        import numpy as np

        spec, place = self.spec(key), self.places[key]
        dtype = carrier(spec.dtype)
        start, stop, _ = slice(start, stop).indices(spec.size)
        data = np.empty(max(0, stop - start), dtype)
        if place.strides is None:
            self._sources.fill(place.file, place.offset + start * dtype.itemsize, data, key)
            return data
        at = 0
        for box in boxes(spec.shape, start, stop):
            part = data[at:][: math.prod(side.stop - side.start for side in box)]
            at += part.size
            offset = place.offset + sum(side.start * n for side, n in zip(box, place.strides, strict=True))
            self._strided(key, place, offset, part.reshape([side.stop - side.start for side in box]))
        return data

    def lies_open(self, key: str) -> bool:
        """Every tensor, except strided ones."""
        return self.places[key].strides is None

    def rows(self, key: str, starts: Sequence[int], length: int) -> np.ndarray:
        """See :meth:`Tensors.rows`."""
        import numpy as np

        place, dtype = self.places[key], carrier(self.spec(key).dtype)
        data = np.empty((len(starts), length), dtype)
        self._sources.fill_rows(place.file, [place.offset + start * dtype.itemsize for start in starts], data, key)
        return data

    def granularity(self, key: str) -> int:
        """1, except for tensors whose axes lie in another order in the file: what must be read together."""
        spec, place = self.spec(key), self.places[key]
        strides = [n if length > 1 else 0 for length, n in zip(spec.shape, place.strides or (), strict=False)]
        for axis, stride in enumerate(strides):
            if 0 < stride < max(strides[axis:]):
                return max(1, math.prod(spec.shape[axis:]))
        return 1

    def files(self) -> list[Path]:
        """The files that hold the bytes."""
        return list(self._files)

    def leaf_bytes(self) -> dict[Path, list[tuple[int, int]]]:
        """The places of all tensors, except strided ones."""
        found: dict[Path, list[tuple[int, int]]] = {}
        for key, place in self.places.items():
            if place.strides is None:
                found.setdefault(place.file, []).append((place.offset, place.offset + self.spec(key).nbytes))
        return found

    def check_sums(self, threads: int = 1, share: tuple[int, int] = (0, 1)) -> None:
        """See :meth:`Checkpoint.check_sums`."""
        sums = self._sums[share[0] :: share[1]]
        with workers(threads, sum(each.size for each in sums)) as pool:
            for each, found in zip(sums, pool.map(self._crc, sums), strict=True):
                if found != each.crc:
                    raise ConvkitError(
                        f"is damaged: the bytes of its record {each.record} don't have the CRC-32 that the file says",
                        path=each.file,
                        remedy="fetch the file again",
                    )

    def _crc(self, of: Sum) -> int:
        crc = 0
        for start in range(0, of.size, BLOCK):
            crc = zlib.crc32(self._sources.read(of.file, of.start + start, min(BLOCK, of.size - start)).data, crc)
        return crc

    def close(self) -> None:
        """Close the files."""
        self._sources.close()

    def _strided(self, key: str, place: Place, offset: int, into: np.ndarray) -> None:
        """Fill an array from the strided elements that begin at an offset: in parts that aren't far apart."""
        import numpy as np

        strides = place.strides or ()
        span = into.itemsize + sum((length - 1) * n for length, n in zip(into.shape, strides, strict=True))
        if span <= max(_SPAN, 2 * into.nbytes):
            data = self._sources.read(place.file, offset, span, key=key)
            np.copyto(into, np.ndarray(into.shape, into.dtype, data, strides=strides))
            return
        axis = max(range(into.ndim), key=lambda n: (into.shape[n] - 1) * strides[n])
        half = into.shape[axis] // 2
        low, high = np.split(into, [half], axis)
        self._strided(key, place, offset, low)
        self._strided(key, place, offset + half * strides[axis], high)
