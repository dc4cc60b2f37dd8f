"""Base of the writers of zarr arrays, whether chunks become files or entries of a database."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from convkit.checkpoint import TensorSpec, Writer
from convkit.errors import ConvkitError
from convkit.formats.arrays.frames import Frames
from convkit.formats.arrays.zarr import ZarrArray
from convkit.formats.plain.check_write import check_write
from convkit.formats.plain.io_errors import written_below

if TYPE_CHECKING:
    import numpy as np


class StoredArrayWriter(Writer):
    """Writes whole chunks of arrays below a folder, each array under its key.

    Args:
        arrays: the arrays.

    Raises:
        ConvkitError: the folder can't be made.
    """

    def __init__(self, folder: Path, arrays: Mapping[str, ZarrArray]) -> None:
        self.folder = folder
        self.arrays = dict(arrays)
        with written_below(self.folder):
            folder.mkdir(parents=True, exist_ok=True)

    @property
    def committed(self) -> bool:
        """Whether an earlier process had committed all arrays, and this writer knows it."""
        return False

    def granularity(self, key: str) -> int:
        """A row of chunks; the whole leaf if chunks run along an axis other than the first."""
        array = self.arrays.get(key)
        return array.row if array else 1

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
        self.store(key, start, data)

    @abstractmethod
    def store(self, key: str, start: int, data: np.ndarray) -> None:
        """Write whole chunks, which were checked."""

    def copy_chunks(self, key: str, start: int, stop: int, packed: object) -> bool:
        """Write chunks as they are packed."""
        array = self.arrays.get(key)
        if array is None or not isinstance(packed, Frames) or not packed.fit(array):
            return False
        self.store_packed(key, array.chunk_numbers(start, stop), packed)
        return True

    @abstractmethod
    def store_packed(self, key: str, numbers: range, packed: Frames) -> None:
        """Write the chunks that have these numbers in C order as they are packed, which fits the array."""

    def checked(self, key: str, start: int, data: np.ndarray, spec: TensorSpec | None = None) -> TensorSpec:
        """The leaf's spec, after checking that the data fits it."""
        spec = spec or (self.arrays[key].spec if key in self.arrays else None)
        return check_write(self.folder, key, spec, start, data)
