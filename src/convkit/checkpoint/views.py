"""Views of checkpoints, without copies: several joined, some leaves changed, or all of them renamed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from convkit.checkpoint.read import Checkpoint, Leaf, Tensors

if TYPE_CHECKING:
    import numpy as np


class Renamed(Tensors):
    """Leaves under other names.

    Args:
        tensors: what holds the leaves.
        names: a leaf's name there, by its name here; other leaves are hidden.
    """

    def __init__(self, tensors: Tensors, names: Mapping[str, str]) -> None:
        here = {old: new for new, old in names.items()}
        self.leaves = {
            new: replace(leaf, key=new, same_as=here.get(leaf.same_as or ""))
            for new, leaf in ((new, tensors.leaves[old]) for new, old in names.items())
        }
        self._tensors = tensors
        self._names = dict(names)

    def read(self, key: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """See :meth:`Tensors.read`."""
        return self._tensors.read(self._names[key], start, stop)

    def lies_open(self, key: str) -> bool:
        """See :meth:`Tensors.lies_open`."""
        return self._tensors.lies_open(self._names[key])

    def rows(self, key: str, starts: Sequence[int], length: int) -> np.ndarray:
        """See :meth:`Tensors.rows`."""
        return self._tensors.rows(self._names[key], starts, length)

    def granularity(self, key: str) -> int:
        """See :meth:`Tensors.granularity`."""
        return self._tensors.granularity(self._names[key])

    def continues(self, key: str) -> bool:
        """See :meth:`Tensors.continues`."""
        return self._tensors.continues(self._names[key])

    def leaf_files(self, key: str) -> dict[str, Path] | None:
        """See :meth:`Tensors.leaf_files`."""
        return self._tensors.leaf_files(self._names[key])

    def origins(self, key: str) -> Iterator[tuple[Tensors, str]]:
        """See :meth:`Tensors.origins`."""
        return self._tensors.origins(self._names[key])


class Joined(Tensors):
    """All leaves of several checkpoints; where more than one has a key, the first is read."""

    def __init__(self, *parts: Tensors) -> None:
        self._of: dict[str, Tensors] = {}
        for part in parts:
            self._of.update({key: part for key in part.leaves if key not in self._of})
        self.leaves = {key: part.leaves[key] for key, part in self._of.items()}

    def read(self, key: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """See :meth:`Tensors.read`."""
        return self._of[key].read(key, start, stop)

    def lies_open(self, key: str) -> bool:
        """See :meth:`Tensors.lies_open`."""
        return self._of[key].lies_open(key)

    def rows(self, key: str, starts: Sequence[int], length: int) -> np.ndarray:
        """See :meth:`Tensors.rows`."""
        return self._of[key].rows(key, starts, length)

    def granularity(self, key: str) -> int:
        """See :meth:`Tensors.granularity`."""
        return self._of[key].granularity(key)

    def continues(self, key: str) -> bool:
        """See :meth:`Tensors.continues`."""
        return self._of[key].continues(key)

    def leaf_files(self, key: str) -> dict[str, Path] | None:
        """See :meth:`Tensors.leaf_files`."""
        return self._of[key].leaf_files(key)

    def origins(self, key: str) -> Iterator[tuple[Tensors, str]]:
        """See :meth:`Tensors.origins`."""
        return self._of[key].origins(key)


class Overlay(Checkpoint):
    """A checkpoint with some leaves hidden, added or changed.

    Args:
        checkpoint: the checkpoint below.
        leaves: the visible leaves; None for all leaves of the checkpoint.
        changed: other elements of some tensors, in the carrier dtype.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        leaves: Mapping[str, Leaf] | None = None,
        changed: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        self.path = checkpoint.path
        self.format = checkpoint.format
        self.metadata = checkpoint.metadata
        self.config = checkpoint.config
        self.leaves = dict(checkpoint.leaves if leaves is None else leaves)
        self._checkpoint = checkpoint
        self._changed = dict(changed or {})

    def read(self, key: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """See :meth:`Tensors.read`."""
        self.spec(key)
        if key in self._changed:
            return self._changed[key].reshape(-1)[start:stop]
        return self._checkpoint.read(key, start, stop)

    def lies_open(self, key: str) -> bool:
        """See :meth:`Tensors.lies_open`."""
        return key in self._changed or self._checkpoint.lies_open(key)

    def rows(self, key: str, starts: Sequence[int], length: int) -> np.ndarray:
        """See :meth:`Tensors.rows`."""
        return super().rows(key, starts, length) if key in self._changed else self._checkpoint.rows(key, starts, length)

    def granularity(self, key: str) -> int:
        """See :meth:`Tensors.granularity`."""
        return 1 if key in self._changed else self._checkpoint.granularity(key)

    def continues(self, key: str) -> bool:
        """See :meth:`Tensors.continues`."""
        return key not in self._changed and self._checkpoint.continues(key)

    def check_sums(self, threads: int = 1, share: tuple[int, int] = (0, 1)) -> None:
        """Those of the checkpoint below."""
        self._checkpoint.check_sums(threads, share)

    def files(self) -> list[Path]:
        """The files of the checkpoint below."""
        return self._checkpoint.files()
