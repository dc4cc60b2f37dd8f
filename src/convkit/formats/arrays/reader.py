"""Reads a checkpoint whose tensors are zarr arrays, or lie inline in a small file."""

from __future__ import annotations

import mmap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from convkit.checkpoint import Checkpoint, Leaf
from convkit.checkpoint.tensors import carrier
from convkit.errors import ConvkitError
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
    ) -> None:
        self.path = path
        self.format = format
        self.leaves = dict(leaves)
        self.metadata = dict(metadata)
        self._files = list(files)
        self._inline = {key: array for key, array in arrays.items() if isinstance(array, ArrayBytes)}
        self._stored = {key: array for key, array in arrays.items() if isinstance(array, StoredArray)}
        self._reader = ArrayReader(self._stored)

    def read(self, key: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Elements ``[start, stop)``: decoded, or a view where :meth:`view` gives one."""
        spec = self.spec(key)
        low, high, _ = slice(start, stop).indices(spec.size)
        view = self.view(key)
        if view is not None:
            return view.reshape(-1)[low:high]
        if low >= high:
            return np.empty(0, carrier(spec.dtype))
        if key in self._inline:
            data = b"".join(self._inline[key].pieces)
            return np.frombuffer(data, carrier(spec.dtype))[low:high]
        return self._reader.read(key, low, high)

    def view(self, key: str) -> np.ndarray | None:
        """Inline tensors and uncompressed ones of a single chunk, memory-mapped."""
        spec = self.spec(key)
        if not spec.size:
            return None
        if key in self._inline:
            pieces = self._inline[key].pieces
            return np.frombuffer(pieces[0], carrier(spec.dtype)).reshape(spec.shape) if len(pieces) == 1 else None
        array = self._stored[key]
        if not (isinstance(array, FolderArray) and array.zarray.raw):
            return None
        file = array.folder / next(array.zarray.chunk_names())
        try:
            with file.open("rb") as opened:
                mapped = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
            return np.ndarray(spec.shape, carrier(spec.dtype), mapped)
        except (OSError, ValueError, TypeError) as error:
            raise ConvkitError(
                f"can't be mapped: {error}", path=file, key=key, remedy="fetch the file again"
            ) from error

    def granularity(self, key: str) -> int:
        """Elements that are decoded together."""
        spec = self.spec(key)
        array = self._stored.get(key)
        return block(spec.shape, array.zarray.decoded) if array is not None else 1

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
