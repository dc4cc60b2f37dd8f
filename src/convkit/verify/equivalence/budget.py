"""Keep a walk within a given memory: by thinner slices of the heads, or by refusing it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from convkit.errors import UsageError
from convkit.oracles.tensors import shape_of
from convkit.verify.equivalence.pieces import SLICE
from convkit.verify.equivalence.stage_memory import Shape, StageShapes

if TYPE_CHECKING:
    from convkit.oracles.oracle import Oracle

#: elements of the thinnest slice
_THINNEST = 1 << 18


def slice_within(memory: int | None, oracles: Sequence[Oracle], tokens: int) -> int:
    """The elements of a head's slices with which a walk keeps within ``memory`` bytes; the usual ones if it is None.

    Raises:
        UsageError: the walk needs more, however thin the slices are.
    """
    elements = SLICE
    if memory is None:
        return elements
    sides = [_shapes(oracle, tokens) for oracle in oracles]
    while max(side.memory(elements) for side in sides) > memory:
        elements //= 2
        if elements < _THINNEST:
            least = max(side.memory(_THINNEST) for side in sides) // 1_000_000 + 1
            problem = f"--memory: {memory // 1_000_000} MB are too little for the largest layer of these models"
            raise UsageError(problem, remedy=f"at least {least} MB are needed")
    return elements


def _shapes(oracle: Oracle, tokens: int) -> StageShapes:
    """The shapes of an oracle's tensors, by the stage that reads them."""
    layers: dict[str, list[Shape]] = {stage: [] for stage in oracle.layer_stages}
    for role in oracle.roles:
        if (stage := oracle.stage_of(role)) in layers:
            layers[stage].append(oracle.part_shape(role))
    tables = [shape_of(oracle.tensors, key) for key in (*oracle.tables, *oracle.vocabulary)]
    return StageShapes([*layers.values()], max(tables, key=math.prod, default=()), tokens)
