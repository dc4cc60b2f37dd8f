"""What a plan is made of: steps, each some source leaves that become some target leaves.

A step knows its pieces, the strided copies that carry it out, and writes itself as JSON, from which
it can be carried out or undone without the mapping.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from convkit.checkpoint import TensorSpec
from convkit.mapping.ops import EXACT, Elementwise, Exactness, Shift
from convkit.mapping.pattern import Axes

_VALUE = TensorSpec((), "bool")


@dataclass(frozen=True)
class Side:
    """One leaf's part in a step: its key, its axes, and where it stands on axes that lie in keys."""

    key: str
    axes: Axes
    at: tuple[tuple[str, int], ...] = ()
    spec: TensorSpec = _VALUE


@dataclass(frozen=True, slots=True)
class Padding:
    """Where a step pads or crops its leaf: beyond ``keep`` on ``axis`` lies the fill.

    What lies there and isn't the fill, a complement keeps under the key ``kept_as``; empty where
    padding has nothing to put back.
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


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a leaf: its shape, where it starts, strides in the leaf and by itself (elements, C order)."""

    shape: tuple[int, ...]
    offset: int
    strides: tuple[int, ...]
    own_strides: tuple[int, ...]


def cropped(key: str) -> str:
    """The key under which a complement keeps what was cropped of a leaf, where that wasn't the fill."""
    return f"{key}#cropped"


def _c_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(math.prod(shape[n + 1 :]) for n in range(len(shape)))


@dataclass(frozen=True)
class Fold:
    """That the leaf ``key`` of one side of a step (``source``, ``target``) is multiplied.

    Factors are what ``recipe`` makes of the leaf ``by``; where that is empty, a number, the argument ``factor``.
    ``exactness`` bounds one such product.
    """

    side: Literal["source", "target"]
    key: str
    by: str
    recipe: str
    arguments: dict[str, Any]
    exactness: Exactness


@dataclass(frozen=True)
class Step:
    """One bound rule: some source leaves become some target leaves.

    ``same`` lists further source names that must equal a source bit by bit (name, of which);
    ``spare`` are further source names that may differ; ``also`` further target names of a target leaf
    (name, of which), among which ``copies`` are independent. A ``folded`` leaf is read, or written, as the factors
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
    spare: tuple[str, ...] = ()
    also: tuple[tuple[str, str], ...] = ()
    folded: Fold | None = None
    kept: tuple[str, ...] = ()
    copies: tuple[str, ...] = ()
    exactness: Exactness = EXACT
    value: bool = False

    @property
    def shifted(self) -> bool:
        """Whether numbers are added and nothing else is done to the elements: a complement makes that exact."""
        return bool(self.ops) and all(isinstance(op, Shift) for op in self.ops)


@dataclass(frozen=True)
class DerivedLeaf:
    """A stored leaf that a recipe gives."""

    key: str
    spec: TensorSpec
    recipe: str
    arguments: dict[str, Any]
    #: leaves of the same side that the recipe reads
    of: tuple[str, ...] = ()
    #: whether it must be as the recipe gives it
    proven: bool = False


@dataclass
class Bound:
    """What the rules made of the leaves."""

    steps: list[Step] = field(default_factory=list)
    derived: list[DerivedLeaf] = field(default_factory=list)
    left_behind: dict[str, str] = field(default_factory=dict)
