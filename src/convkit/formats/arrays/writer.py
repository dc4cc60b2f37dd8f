"""Base of the writers of zarr arrays, whether chunks become files or entries of a database."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from convkit.checkpoint import TensorSpec, Writer
from convkit.errors import ConvkitError
from convkit.formats.arrays.ranges import block
from convkit.formats.arrays.store import ArrayWriter, StoredArray
from convkit.formats.plain.check_write import check_write
from convkit.formats.plain.io_errors import written_below

if TYPE_CHECKING:
    import numpy as np


class StoredArrayWriter(Writer):
    """Writes whole chunks of arrays below a folder, each array under its key.

    Args:
        arrays: the arrays, and where each is to be stored.

    Raises:
        ConvkitError: the folder can't be made.
    """

    def __init__(self, folder: Path, arrays: Mapping[str, StoredArray]) -> None:
        self.folder = folder
        self.arrays = dict(arrays)
        self._writer = ArrayWriter(self.arrays)
        with written_below(self.folder):
            folder.mkdir(parents=True, exist_ok=True)

    def granularity(self, key: str) -> int:
        """A row of chunks; the whole leaf if chunks run along an axis other than the first."""
        array = self.arrays.get(key)
        return block(array.zarray.spec.shape, array.zarray.chunks) if array else 1

    def write(self, key: str, start: int, data: np.ndarray) -> None:
        """Write whole chunks."""
        spec = self.checked(key, start, data)
        grain = self.granularity(key)
        if start % grain or (data.size % grain and start + data.size != spec.size):
            raise ConvkitError(
                f"elements {start} to {start + data.size} aren't whole chunks of {grain}",
                path=self.folder,
                key=key,
                remedy="report this",
            )
        self._writer.write(key, start, data)

    def finish(self, key: str) -> None:
        """Wait until the leaf's chunks are stored."""
        if key in self.arrays:
            self._writer.finish(key)

    def settle(self, key: str) -> None:
        """Wait until the chunks that were written so far are stored."""
        if key in self.arrays:
            self._writer.settle(key)

    @abstractmethod
    def commit(self) -> None:
        """Check that every array is complete, and sync the folder."""

    def close(self) -> None:
        """Release the arrays."""
        self._writer.close()

    def checked(self, key: str, start: int, data: np.ndarray, spec: TensorSpec | None = None) -> TensorSpec:
        """The leaf's spec, after checking that the data fits it."""
        spec = spec or (self.arrays[key].zarray.spec if key in self.arrays else None)
        return check_write(self.folder, key, spec, start, data)
