"""Reads a checkpoint whose tensors are zarr arrays, or lie inline in a small file."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from convkit.checkpoint import Checkpoint, Leaf
from convkit.checkpoint.source_files import SourceFiles
from convkit.checkpoint.tensors import carrier
from convkit.formats.arrays.frames import Frames
from convkit.formats.arrays.ranges import block
from convkit.formats.arrays.store import ArrayReader, StoredArray
from convkit.state.flax_msgpack import ArrayBytes


@dataclass(frozen=True, slots=True)
class FolderArray(StoredArray):
    """An array whose chunks are files. ``files`` lists them, and the metadata file if there is one."""

    folder: Path
    files: tuple[Path, ...]


class ArrayCheckpoint(Checkpoint):
    """Leaves that are arrays, inline arrays, or values.

    Args:
        arrays: the data of the leaves that are tensors.
        files: the checkpoint's files that belong to no array.
        described: the leaves that one of them lists, here or not.
    """

    def __init__(
        self,
        path: Path,
        format: str,
        *,
        leaves: Mapping[str, Leaf],
        arrays: Mapping[str, StoredArray | ArrayBytes],
        metadata: Mapping[str, Any],
        files: Sequence[Path],
        described: Collection[str] = (),
    ) -> None:
        self.path = path
        self.format = format
        self.leaves = dict(leaves)
        self.metadata = dict(metadata)
        self.described = frozenset(described)
        self._files = list(files)
        self._inline = {key: array for key, array in arrays.items() if isinstance(array, ArrayBytes)}
        self._stored = {key: array for key, array in arrays.items() if isinstance(array, StoredArray)}
        self._reader = ArrayReader(self._stored)
        self._sources = SourceFiles()

    def read(self, key: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Elements ``[start, stop)``: decoded, or as they lie in a file."""
        spec = self.spec(key)
        low, high, _ = slice(start, stop).indices(spec.size)
        dtype = carrier(spec.dtype)
        if low >= high:
            return np.empty(0, dtype)
        if key in self._inline:
            return self._inline[key].read(self._sources, low, high, key).view(dtype)
        if (file := self._raw_file(key)) is not None:
            return self._sources.read(file, low * dtype.itemsize, high - low, dtype, key)
        return self._reader.read(key, low, high)

    def _raw_file(self, key: str) -> Path | None:
        """The file of an array that is one chunk, uncompressed."""
        array = self._stored[key]
        if isinstance(array, FolderArray) and array.zarray.raw:
            return array.folder / next(array.zarray.chunk_names())
        return None

    def granularity(self, key: str) -> int:
        """Elements that are decoded together."""
        spec = self.spec(key)
        array = self._stored.get(key)
        return block(spec.shape, array.zarray.decoded) if array is not None else 1

    def continues(self, key: str) -> bool:
        """Whether chunks are decoded in slices."""
        self.spec(key)
        return key in self._stored and self._raw_file(key) is None and self._reader.continues(key)

    def packed(self, key: str) -> Frames | None:
        """The chunks as they are packed, of a leaf that has the array's shape and dtype, if all are stored."""
        spec = self.spec(key)
        array = self._stored.get(key)
        return self._reader.frames(key) if array is not None and array.zarray.spec == spec else None

    def leaf_files(self, key: str) -> dict[str, Path] | None:
        """The files of an array's folder; None if it has no metadata, or its shape or dtype isn't the leaf's."""
        spec = self.spec(key)
        array = self._stored.get(key)
        if (
            not isinstance(array, FolderArray)
            or array.zarray.spec != spec
            or array.folder / array.zarray.name not in array.files
        ):
            return None
        return {file.relative_to(array.folder).as_posix(): file for file in array.files}

    def files(self) -> list[Path]:
        """The files that hold the bytes."""
        arrays = (array for array in self._stored.values() if isinstance(array, FolderArray))
        return [*self._files, *(file for array in arrays for file in array.files)]

    def close(self) -> None:
        """Release the arrays."""
        self._reader.close()
        self._sources.close()
