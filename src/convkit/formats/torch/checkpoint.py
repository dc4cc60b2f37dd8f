"""An opened torch checkpoint: tensors at their places in the files, and arrays of numpy within the pickle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from convkit.checkpoint.read import Tensors
from convkit.formats.plain.placed import PlacedCheckpoint
from convkit.formats.torch.objects import Array

if TYPE_CHECKING:
    import numpy as np


class TorchCheckpoint(PlacedCheckpoint):
    """A checkpoint of which some tensors are ``arrays`` in memory: a pickle is read whole."""

    def __init__(self, *args: Any, arrays: Mapping[str, Array], **options: Any) -> None:
        super().__init__(*args, **options)
        self._arrays = dict(arrays)

    def read(self, key: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """See :meth:`Tensors.read`."""
        if key not in self._arrays:
            return super().read(key, start, stop)
        start, stop, _ = slice(start, stop).indices(self.spec(key).size)
        return self._arrays[key].read(start, max(start, stop))

    def lies_open(self, key: str) -> bool:
        """Every tensor, except strided ones; arrays aren't in the file as they are."""
        return key not in self._arrays and super().lies_open(key)

    def rows(self, key: str, starts: Sequence[int], length: int) -> np.ndarray:
        """See :meth:`Tensors.rows`."""
        return Tensors.rows(self, key, starts, length) if key in self._arrays else super().rows(key, starts, length)

    def granularity(self, key: str) -> int:
        """1 for arrays."""
        return 1 if key in self._arrays else super().granularity(key)
