"""Read leaves that aren't stored: they are computed by a recipe, or made by a job."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from threading import local
from typing import TYPE_CHECKING

from convkit.checkpoint import Leaf, Tensors
from convkit.checkpoint.tensors import carrier, value_dtype
from convkit.execute.gather import Gather
from convkit.execute.job import Job
from convkit.execute.recipes import OF_LEAVES, RECIPES, Read
from convkit.plan.step import DerivedLeaf

if TYPE_CHECKING:
    import numpy as np


class Computed(Tensors):
    """Derived leaves: each is computed by its recipe when it is read, from leaves ``beside`` it."""

    def __init__(self, derived: Iterable[DerivedLeaf], beside: Tensors) -> None:
        self.derived = {leaf.key: leaf for leaf in derived}
        self.leaves = {key: Leaf(key, leaf.spec) for key, leaf in self.derived.items()}
        self.beside = beside

    def read(self, key: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """See :meth:`Tensors.read`; a leaf is computed whole."""
        import numpy as np

        leaf = self.derived[key]
        if leaf.recipe in OF_LEAVES:
            made = OF_LEAVES[leaf.recipe](leaf.spec, [Read(self.beside, name) for name in leaf.of], **leaf.arguments)
        else:
            made = RECIPES[leaf.recipe](**leaf.arguments)
        values = np.ascontiguousarray(made.astype(value_dtype(leaf.spec.dtype)))
        return values.view(carrier(leaf.spec.dtype)).reshape(-1)[start:stop]

    def origins(self, key: str) -> Iterator[tuple[Tensors, str]]:
        """See :meth:`Tensors.origins`."""
        for name in self.derived[key].of:
            yield from self.beside.origins(name)

    def gives(self, leaf: DerivedLeaf, stored: Tensors) -> bool:
        """Whether the recipe gives the stored leaf, bit by bit."""
        import numpy as np

        made = self.read(leaf.key)
        return made.size == leaf.spec.size and np.array_equal(made, stored.read(leaf.key))


class _Own(local):
    """The gathers of one thread; those in use hold decoded parts of their sources."""

    def __init__(self, jobs: dict[str, Job]) -> None:
        self.gather = lru_cache(maxsize=2)(lambda key: Gather(jobs[key]))


class Gathered(Tensors):
    """Leaves that jobs make when they are read."""

    def __init__(self, jobs: Iterable[Job]) -> None:
        made = {job.key: job for job in jobs}
        self.leaves = {key: Leaf(key, job.spec) for key, job in made.items()}
        self._own = _Own(made)
        self._made = made

    def read(self, key: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """See :meth:`Tensors.read`."""
        return self._own.gather(key)(start, self.spec(key).size if stop is None else stop)

    def origins(self, key: str) -> Iterator[tuple[Tensors, str]]:
        """See :meth:`Tensors.origins`."""
        return self._made[key].origins()
