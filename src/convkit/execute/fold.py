"""Leaves seen as another layout has them: multiplied by factors that a second leaf gives (``mapping.Folded``).

The product is taken in float64 and rounded once, to the leaf's dtype.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from convkit.checkpoint import Checkpoint, TensorSpec
from convkit.checkpoint.tensors import value_dtype
from convkit.execute.recipes import FACTORS, Read
from convkit.execute.slabs import SLAB
from convkit.mapping.ops import computed

if TYPE_CHECKING:
    import numpy as np
from convkit.plan.step import Fold


class Multiplied(Checkpoint):
    """A checkpoint in which one leaf is multiplied by its factors when it is read."""

    def __init__(self, checkpoint: Checkpoint, fold: Fold) -> None:
        self.path = checkpoint.path
        self.leaves = checkpoint.leaves
        self._checkpoint = checkpoint
        self._fold = fold

    def read(self, key: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """See :meth:`Checkpoint.read`; products are taken slab by slab, since float64 is wide."""
        import numpy as np

        data = self._checkpoint.read(key, start, stop)
        spec = self.leaves[key].spec
        if key != self._fold.key or spec is None:
            return data
        made = np.empty_like(data)
        step = SLAB // np.dtype(np.float64).itemsize
        for low in range(0, data.size, step):
            part = data[low : low + step]
            made[low : low + step] = self._multiplied(part, spec, start + low)
        return made

    def _multiplied(self, part: np.ndarray, spec: TensorSpec, start: int) -> np.ndarray:
        by = _read(self._checkpoint, self._fold.by)
        factors = FACTORS[self._fold.recipe](spec, by, start, start + part.size, **self._fold.arguments)
        return computed(part, spec.dtype, lambda values: values * factors)

    def view(self, key: str) -> np.ndarray | None:
        """See :meth:`Checkpoint.view`."""
        return None if key == self._fold.key else self._checkpoint.view(key)

    def granularity(self, key: str) -> int:
        """See :meth:`Checkpoint.granularity`."""
        return self._checkpoint.granularity(key)


def _read(checkpoint: Checkpoint, key: str) -> Read:
    spec = checkpoint.leaves[key].spec
    assert spec is not None
    return Read(spec, lambda start, stop: checkpoint.read(key, start, stop).view(value_dtype(spec.dtype)))
