"""Steps, the parts of a plan: each turns some source leaves into some target leaves.

A step holds its pieces, the strided copies that carry it out, and can be written as JSON, from which
it can be carried out or undone without the mapping.
"""

from __future__ import annotations

import math
from typing import Any, Literal

from msgspec import Struct, field

from convkit.checkpoint import TensorSpec
from convkit.mapping.ops import EXACT, Elementwise, Exactness, Shift
from convkit.mapping.pattern import Axes

_VALUE = TensorSpec((), "bool")


class Side(Struct, frozen=True):
    """One leaf's part in a step: its key, its axes, and where it stands on axes that lie in keys."""

    key: str
    axes: Axes
    at: tuple[tuple[str, int], ...] = ()
    spec: TensorSpec = _VALUE


class Padding(Struct, frozen=True):
    """Where a step pads or crops its leaf: the fill lies beyond ``keep`` on ``axis``.

    If other elements than the fill lie there, a complement keeps them under the key ``kept_as``; it is empty if
    padding has nothing to restore.
    """

    axis: int
    keep: int
    fill: float
    kept_as: str = ""

    def beyond(self, shape: tuple[int, ...]) -> Part:
        """The part of a leaf of this shape that lies beyond what is kept."""
        strides = _c_strides(shape)
        part = list(shape)
        part[self.axis] -= self.keep
        return Part(tuple(part), self.keep * strides[self.axis], strides, _c_strides(tuple(part)))


class Part(Struct, frozen=True):
    """A part of a leaf: its shape, its start, and its strides in the leaf and on its own (elements, C order)."""

    shape: tuple[int, ...]
    offset: int
    strides: tuple[int, ...]
    own_strides: tuple[int, ...]


def cropped(key: str) -> str:
    """The key under which a complement keeps the part cropped from a leaf, if that wasn't the fill."""
    return f"{key}#cropped"


def _c_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(math.prod(shape[n + 1 :]) for n in range(len(shape)))


class Fold(Struct, frozen=True):
    """The multiplication of the leaf ``key`` on one side of a step (``source``, ``target``).

    ``recipe`` computes the factors from the leaf ``by``; if that is empty, the factor is the argument ``factor``.
    ``exactness`` bounds one product.
    """

    side: Literal["source", "target"]
    key: str
    by: str
    recipe: str
    arguments: dict[str, Any]
    exactness: Exactness


class Step(Struct, frozen=True):
    """One bound rule: some source leaves become some target leaves.

    ``same`` lists further source names that must equal a source bit by bit (name, source);
    ``unused`` are further source names that may differ; ``also`` lists further target names of a target leaf
    (name, target), among which ``copies`` are independent. A ``folded`` leaf is read, or written, as the factors
    make it. ``kept`` are target leaves that a complement holds as they were before they were shifted.
    """

    rule: str
    sources: tuple[Side, ...]
    targets: tuple[Side, ...]
    sizes: dict[str, int]
    ops: tuple[Elementwise, ...] = ()
    pad: Padding | None = None
    crop: Padding | None = None
    same: tuple[tuple[str, str], ...] = ()
    unused: tuple[str, ...] = ()
    also: tuple[tuple[str, str], ...] = ()
    folded: Fold | None = None
    kept: tuple[str, ...] = ()
    copies: tuple[str, ...] = ()
    exactness: Exactness = EXACT
    value: bool = False

    @property
    def shifted(self) -> bool:
        """Whether the elements are only shifted, which a complement makes exact."""
        return bool(self.ops) and all(isinstance(op, Shift) for op in self.ops)


class DerivedLeaf(Struct, frozen=True):
    """A stored leaf that a recipe computes."""

    key: str
    spec: TensorSpec
    recipe: str
    arguments: dict[str, Any]
    #: leaves of the same side that the recipe reads
    of: tuple[str, ...] = ()
    #: whether it must be equal to what the recipe computes
    proven: bool = False


class Stated(Struct, frozen=True):
    """A value of the target that isn't the source's, and why."""

    value: Any
    why: str


class Bound(Struct):
    """The result of binding a mapping's rules to leaves."""

    steps: list[Step] = field(default_factory=list)
    derived: list[DerivedLeaf] = field(default_factory=list)
    left_behind: dict[str, str] = field(default_factory=dict)
    stated: dict[str, Stated] = field(default_factory=dict)
    #: tensors of one number that isn't the source's, which a recipe fills
    filled: dict[str, DerivedLeaf] = field(default_factory=dict)
