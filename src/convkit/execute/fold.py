"""Multiply leaves by a number or by factors from a second leaf, as the other layout stores them (``mapping.Folded``).

The product is computed in float64 and rounded once, to the leaf's dtype.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from convkit.checkpoint import Tensors, TensorSpec
from convkit.checkpoint.tensors import carrier
from convkit.execute.recipes import FACTORS, Read
from convkit.execute.slabs import SLAB
from convkit.mapping.ops import computed

if TYPE_CHECKING:
    import numpy as np
from convkit.plan.step import Fold


class Multiplied(Tensors):
    """The leaves of a checkpoint, where one leaf is multiplied by its factors when it is read."""

    def __init__(self, tensors: Tensors, fold: Fold) -> None:
        self.leaves = tensors.leaves
        self._tensors = tensors
        self._fold = fold

    def read(self, key: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """See :meth:`Tensors.read`; products are computed slab by slab, to save memory in float64."""
        import numpy as np

        if key != self._fold.key:
            return self._tensors.read(key, start, stop)
        spec, by = self.spec(key), Read(self._tensors, self._fold.by) if self._fold.by else None
        stop = spec.size if stop is None else stop
        made = np.empty(stop - start, carrier(spec.dtype))
        slab = SLAB * spec.itemsize // np.dtype(np.float64).itemsize
        for low, part in self._tensors.blocks(key, slab, start=start, stop=stop):
            made[low - start : low - start + part.size] = self._multiplied(part, spec, by, low)
        return made

    def _multiplied(self, part: np.ndarray, spec: TensorSpec, by: Read | None, start: int) -> np.ndarray:
        factors = FACTORS[self._fold.recipe](spec, by, start, start + part.size, **self._fold.arguments)
        return computed(part, spec.dtype, lambda values: values * factors)

    def granularity(self, key: str) -> int:
        """See :meth:`Tensors.granularity`."""
        return self._tensors.granularity(key)

    def continues(self, key: str) -> bool:
        """See :meth:`Tensors.continues`."""
        return self._tensors.continues(key)

    def origins(self, key: str) -> Iterator[tuple[Tensors, str]]:
        """See :meth:`Tensors.origins`."""
        yield from self._tensors.origins(key)
        if key == self._fold.key and self._fold.by:
            yield from self._tensors.origins(self._fold.by)
