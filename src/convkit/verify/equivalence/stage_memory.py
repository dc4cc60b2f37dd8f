"""Predict the memory that a walk takes, from the shapes of tensors.

Both models are walked a stage at a time, and the tensors of one side are in memory at a time, in float32. So the
largest stage decides: a layer, together with the one after it (a planted fault takes that one's weights) and with what
a layer computes; or a slice of a head, with the logits of its tokens. The factors were fitted to measured processes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from convkit.verify.equivalence.pieces import SLICE
from convkit.verify.equivalence.probe import ROWS

Shape = tuple[int, ...]

#: a process that has opened two small models: PyTorch, transformers, and what reads the formats of JAX
PROCESS = 425_000_000
_FLOAT = 4
#: what a layer computes at one time, in units of its widest output and of one head's scores times the heads
_WIDEST, _SCORES = 5, 10
#: the logits of a slice in memory at one time: of the source, of the target fed and free, differences, and faults
_LOGITS = 8
#: a head is at least this wide
_HEAD = 64


@dataclass(frozen=True)
class StageShapes:
    """The shapes of one side's tensors: those of each layer, and the largest one outside the layers.

    ``tokens`` are all positions of the input.
    """

    layers: Sequence[Sequence[Shape]]
    table: Shape
    tokens: int

    def memory(self, slice_elements: int = SLICE) -> int:
        """Bytes that a process takes at most: the largest stage, and what layers compute, which it keeps for later."""
        largest = max(self._head(slice_elements), *map(_layer, self.layers), 0)
        return PROCESS + _FLOAT * (self._computed + largest)

    @property
    def _computed(self) -> int:
        """Elements of what a layer computes."""
        matrices = (shape for shapes in self.layers for shape in shapes if len(shape) > 1)
        scores = self.tokens // ROWS * min(self.table, default=0) // _HEAD
        return self.tokens * (_WIDEST * max(map(max, matrices), default=0) + _SCORES * scores)

    def _head(self, slice_elements: int) -> int:
        """Elements of a slice of the largest table, the same of the embedding, a changed one, and their logits."""
        elements = min(math.prod(self.table), slice_elements)
        logits = self.tokens * (elements // max(1, min(self.table, default=1)))
        return 3 * elements + _LOGITS * logits


def _layer(shapes: Sequence[Shape]) -> int:
    """Elements of a layer, the one after it, and a changed tensor."""
    sizes = [math.prod(shape) for shape in shapes]
    return 2 * sum(sizes) + max(sizes, default=0)
