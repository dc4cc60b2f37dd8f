"""Leaves that are stored nowhere: computed by a recipe, or made by a job."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from threading import local
from typing import TYPE_CHECKING

from convkit.checkpoint import Checkpoint, Leaf
from convkit.checkpoint.tensors import carrier, value_dtype
from convkit.execute.recipes import OF_LEAVES, RECIPES, Read
from convkit.plan.step import DerivedLeaf

if TYPE_CHECKING:
    import numpy as np
from convkit.execute.gather import Gather
from convkit.execute.job import Job


class Computed(Checkpoint):
    """Derived leaves as a checkpoint: each is computed by its recipe, from leaves ``beside`` it, when it is read."""

    def __init__(self, derived: Iterable[DerivedLeaf], beside: Checkpoint) -> None:
        self.derived = {leaf.key: leaf for leaf in derived}
        self.leaves = {key: Leaf(key, leaf.spec) for key, leaf in self.derived.items()}
        self.beside = beside

    def read(self, key: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Computed by the leaf's recipe."""
        import numpy as np

        leaf = self.derived[key]
        if leaf.recipe in OF_LEAVES:
            made = OF_LEAVES[leaf.recipe](leaf.spec, [self._read(name) for name in leaf.of], **leaf.arguments)
        else:
            made = RECIPES[leaf.recipe](**leaf.arguments)
        values = np.ascontiguousarray(made.astype(value_dtype(leaf.spec.dtype)))
        return values.view(carrier(leaf.spec.dtype)).reshape(-1)[start:stop]

    def _read(self, key: str) -> Read:
        spec = self.beside.leaves[key].spec
        assert spec is not None
        return Read(spec, lambda start, stop: self.beside.read(key, start, stop).view(value_dtype(spec.dtype)))

    def gives(self, leaf: DerivedLeaf, stored: Checkpoint) -> bool:
        """Whether the recipe gives what is stored, bit by bit."""
        import numpy as np

        made = self.read(leaf.key)
        return made.size == leaf.spec.size and np.array_equal(made, stored.read(leaf.key))


class Joined(Checkpoint):
    """Two checkpoints as one to read from; where both have a key, the first one answers."""

    def __init__(self, one: Checkpoint, other: Checkpoint) -> None:
        self._of = dict.fromkeys(other.leaves, other) | dict.fromkeys(one.leaves, one)

    def read(self, key: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Read by the one that has it."""
        return self._of[key].read(key, start, stop)

    def view(self, key: str) -> np.ndarray | None:
        """Seen through the one that has it."""
        return self._of[key].view(key)

    def granularity(self, key: str) -> int:
        """That of the one that has it."""
        return self._of[key].granularity(key)


class _Own(local):
    """The gathers of one thread; those in use hold what they read of sources that must be decoded."""

    def __init__(self, jobs: dict[str, Job]) -> None:
        self.gather = lru_cache(maxsize=2)(lambda key: Gather(jobs[key]))


class Gathered(Checkpoint):
    """Leaves as a checkpoint that exists nowhere: each is made by its job when it is read."""

    def __init__(self, jobs: Iterable[Job]) -> None:
        made = {job.key: job for job in jobs}
        self.leaves = {key: Leaf(key, job.spec) for key, job in made.items()}
        self._own = _Own(made)

    def read(self, key: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Made by its job."""
        spec = self.leaves[key].spec
        assert spec is not None
        return self._own.gather(key)(start, spec.size if stop is None else stop)
