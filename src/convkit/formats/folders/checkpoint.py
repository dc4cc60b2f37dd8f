"""Reads the folders of several checkpoints as one checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convkit.checkpoint import Checkpoint, Tensors
from convkit.checkpoint.views import Joined, Renamed

if TYPE_CHECKING:
    import numpy as np


class FoldersCheckpoint(Checkpoint):
    """The checkpoints of components: the keys of each begin with its name."""

    def __init__(
        self, path: Path, format: str, parts: Mapping[str, Checkpoint], config: dict[str, Any] | None, others: list[str]
    ) -> None:
        self.path = path
        self.format = format
        self.metadata = {"companions": others} if others else {}
        self.config = config
        self._parts = dict(parts)
        self._tensors: Tensors = Joined(
            *(Renamed(part, {f"{name}.{key}": key for key in part.leaves}) for name, part in parts.items())
        )
        self.leaves = self._tensors.leaves

    def read(self, key: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """See :meth:`Tensors.read`."""
        self.spec(key)
        return self._tensors.read(key, start, stop)

    def lies_open(self, key: str) -> bool:
        """See :meth:`Tensors.lies_open`."""
        return self._tensors.lies_open(key)

    def rows(self, key: str, starts: Sequence[int], length: int) -> np.ndarray:
        """See :meth:`Tensors.rows`."""
        return self._tensors.rows(key, starts, length)

    def granularity(self, key: str) -> int:
        """See :meth:`Tensors.granularity`."""
        return self._tensors.granularity(key)

    def continues(self, key: str) -> bool:
        """See :meth:`Tensors.continues`."""
        return self._tensors.continues(key)

    def files(self) -> list[Path]:
        """The files of every component."""
        return [file for part in self._parts.values() for file in part.files()]

    def leaf_bytes(self) -> dict[Path, list[tuple[int, int]]]:
        """Those of every component."""
        return {file: spans for part in self._parts.values() for file, spans in part.leaf_bytes().items()}

    def check_sums(self, threads: int = 1, share: tuple[int, int] = (0, 1)) -> None:
        """Those of every component."""
        for part in self._parts.values():
            part.check_sums(threads, share)

    def close(self) -> None:
        """Close every component."""
        for part in self._parts.values():
            part.close()
