"""What a plan is made of: steps, each some source leaves that become some target leaves.

A step knows its pieces, the strided copies that carry it out, and writes itself as JSON, from which
it can be carried out or undone without the mapping.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

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

    def to_json(self) -> dict[str, Any]:
        """For the plan."""
        return {"key": self.key, "axes": str(self.axes), "at": dict(self.at)}


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

    def to_json(self) -> dict[str, Any]:
        """For the plan."""
        doc: dict[str, Any] = {"axis": self.axis, "keep": self.keep, "fill": self.fill}
        return doc | ({"kept_as": self.kept_as} if self.kept_as else {})


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

    side: str
    key: str
    by: str
    recipe: str
    arguments: dict[str, Any]
    exactness: Exactness

    def to_json(self) -> dict[str, Any]:
        """For the plan."""
        return {**asdict(self), "exactness": self.exactness.to_json()}


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

    def to_json(self) -> dict[str, Any]:
        """For the plan: all that is needed to carry the step out, or to undo it."""
        doc: dict[str, Any] = {
            "rule": self.rule,
            "op": "value" if self.value else "rearrange",
            "exactness": self.exactness.to_json(),
            "sources": [side.to_json() for side in self.sources],
            "targets": [side.to_json() for side in self.targets],
            "sizes": self.sizes,
        }
        if self.ops:
            doc["ops"] = [op.to_json() for op in self.ops]
        for name, edge in (("pad", self.pad), ("crop", self.crop)):
            if edge:
                doc[name] = edge.to_json()
        if self.folded:
            doc["folded"] = self.folded.to_json()
        if self.kept:
            doc["kept"] = list(self.kept)
        if self.same:
            doc["same"] = [list(pair) for pair in self.same]
        if self.also:
            doc["also"] = [list(pair) for pair in self.also]
            independent = [name for name, _ in self.also if name in self.copies]
            doc["copied"] = len(independent) == len(self.also)
            if independent and not doc["copied"]:
                doc["copies"] = independent
        return doc


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

    def to_json(self) -> dict[str, Any]:
        """For the plan."""
        doc = {"key": self.key, "recipe": self.recipe, "arguments": self.arguments}
        return doc | ({"of": list(self.of)} if self.of else {})


@dataclass
class Bound:
    """What the rules made of the leaves."""

    steps: list[Step] = field(default_factory=list)
    derived: list[DerivedLeaf] = field(default_factory=list)
    left_behind: dict[str, str] = field(default_factory=dict)
