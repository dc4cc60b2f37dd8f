"""A checkpoint in memory, for tiny models."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from convkit.checkpoint import Checkpoint, Leaf, TensorSpec


class Arrays(Checkpoint):
    """A checkpoint in memory: specs, and each tensor's elements, 1-D in its carrier."""

    def __init__(self, specs: Mapping[str, TensorSpec], data: Mapping[str, np.ndarray], format: str) -> None:
        self.path = Path("in memory")
        self.format = format
        self.metadata = {}
        self.leaves = {key: Leaf(key, spec) for key, spec in specs.items()}
        self.data = data

    def read(self, key: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """See :class:`convkit.checkpoint.Tensors`."""
        return self.data[key][start:stop]

    def files(self) -> list[Path]:
        """There are none."""
        return []
