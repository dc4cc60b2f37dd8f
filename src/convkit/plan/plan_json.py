"""The plan as a document: its types, from which the schema is made, and the conversion of steps into documents.

A plan document is self-contained and holds no paths: from it alone a conversion can be undone. Keys whose default is
``UNSET`` are left out where there is nothing to say.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

from convkit.checkpoint import Leaf
from convkit.checkpoint.wrapping import Wrapping
from convkit.files.document import Document
from convkit.files.receipt_json import Natural
from convkit.mapping.ops import Cast, Elementwise, Exactness, Scale, Shift
from convkit.plan.figures import Figures
from convkit.plan.step import DerivedLeaf, Fold, Padding, Side, Step

Fate = Literal["moved", "copied", "tied", "derived", "left behind", "folded", "dropped"]
Origin = Literal["moved", "copied", "tied", "derived", "restored", "stated"]


class UlpBound(Struct, frozen=True):
    """How many units in the last place of a dtype a value may move."""

    ulp: Annotated[float, Meta(ge=0)]
    dtype: str


class CastOp(Struct, frozen=True, tag_field="op", tag="cast"):
    """Floats rounded to another dtype."""

    from_: str = field(name="from")
    to: str


class ShiftOp(Struct, frozen=True, tag_field="op", tag="shift"):
    """A number added to values."""

    by: float


class ScaleOp(Struct, frozen=True, tag_field="op", tag="scale"):
    """Values multiplied by a number."""

    by: float


class StepSide(Struct, frozen=True):
    """A leaf's part in a step: its axes, and its index on those that lie in its key."""

    key: str
    axes: str
    at: dict[str, Natural]


class PlannedEdge(Struct, frozen=True):
    """Where a leaf is padded or cropped."""

    axis: int
    keep: Natural
    fill: float
    kept_as: Annotated[
        str | UnsetType,
        Meta(description="the complement's key for what is cropped, or put back, where it isn't the fill"),
    ] = UNSET


class PlannedFold(Struct, frozen=True):
    """A leaf that the step reads or writes multiplied, by a number or by factors from another leaf of its side."""

    side: Literal["source", "target"]
    key: str
    by: str
    recipe: str
    arguments: dict[str, Any]
    exactness: UlpBound | Literal["exact"]


Pair = tuple[str, str]


class PlannedStep(Struct, frozen=True, kw_only=True):
    """Some source leaves that become some target leaves."""

    rule: str
    op: Literal["rearrange", "value"]
    exactness: UlpBound | Literal["exact"]
    sources: list[StepSide]
    targets: list[StepSide]
    sizes: dict[str, Natural]
    ops: list[CastOp | ShiftOp | ScaleOp] | UnsetType = UNSET
    pad: PlannedEdge | UnsetType = UNSET
    crop: PlannedEdge | UnsetType = UNSET
    folded: PlannedFold | UnsetType = UNSET
    kept: Annotated[
        list[str] | UnsetType,
        Meta(description="target leaves that a complement holds as they were before they were shifted"),
    ] = UNSET
    same: Annotated[
        list[Pair] | UnsetType,
        Meta(description="further names of source leaves that must be equal, with the leaf"),
    ] = UNSET
    also: Annotated[list[Pair] | UnsetType, Meta(description="further names of target leaves, with the leaf")] = UNSET
    copied: Annotated[
        bool | UnsetType, Meta(description="whether all further names of target leaves are independent copies")
    ] = UNSET
    copies: Annotated[
        list[str] | UnsetType,
        Meta(description="further names of target leaves that are independent copies, where others are tied"),
    ] = UNSET


class PlannedRecipe(Struct, frozen=True):
    """A stored leaf that a recipe computes."""

    key: str
    recipe: str
    arguments: dict[str, Any]
    of: Annotated[list[str] | UnsetType, Meta(description="leaves of the same side that the recipe reads")] = UNSET


class SourceLeaf(Struct, frozen=True, kw_only=True):
    """A leaf of the source, and what becomes of it; a value has neither shape nor dtype."""

    shape: list[Natural] | None
    dtype: str | None
    fate: Fate
    step: Natural | UnsetType = UNSET
    reason: str | UnsetType = UNSET


class TargetLeaf(Struct, frozen=True, kw_only=True):
    """A leaf of the target, and where it comes from; a value has neither shape nor dtype."""

    shape: list[Natural] | None
    dtype: str | None
    origin: Origin
    step: Natural | UnsetType = UNSET
    reason: str | UnsetType = UNSET
    value: Annotated[Any, Meta(description="what a stated leaf is")] = UNSET


class PlannedSource(Struct, frozen=True):
    """The source of the plan."""

    layout: str
    format: str
    conventions: dict[str, str]
    config: dict[str, Any]
    wrapped: Annotated[
        Wrapping | UnsetType,
        Meta(description="what the stored keys have beside the model's own names, by which the plan calls the leaves"),
    ] = UNSET


class PlannedTarget(Struct, frozen=True):
    """The target of the plan."""

    layout: str
    format: str
    release: str | None
    config_file: Annotated[
        str, Meta(description="what a folder of the layout calls its config; empty where it has none")
    ]
    conventions: dict[str, str]
    config: dict[str, Any]


class Default(Struct, frozen=True):
    """A config field that wasn't given: its default value, and where that is documented."""

    name: str
    value: Any
    source: str


class PlannedDeviation(Struct, frozen=True):
    """A value of a config that the other side says only nearly."""

    side: Annotated[
        Literal["source", "target", "between"],
        Meta(description="whose config it is: between is a config on the way of a chain, which no file holds"),
    ]
    field: Annotated[str, Meta(description="the path of the field in the whole config")]
    value: Annotated[Any, Meta(description="what that config says there, or means where it leaves the field out")]
    taken_as: Annotated[Any, Meta(description="the value with which both sides would be exactly the same model")]
    reason: str


class PlanDocument(Document, frozen=True, kw_only=True):
    """The fate of every source leaf and the origin of every target leaf; self-contained, without paths."""

    schema: Literal["convkit.plan/1"] = "convkit.plan/1"
    mapping: str
    source: PlannedSource
    target: PlannedTarget
    release: str | None
    restored_from: Annotated[
        int | UnsetType,
        Meta(description="the place, in the receipt beside the source, of the mapping whose losses come back; else 0"),
    ] = UNSET
    variant: dict[str, str]
    names: dict[str, Any]
    defaults: list[Default]
    lost_config: dict[str, Any]
    exact: bool
    dtype: str | None
    allow_overflow: Annotated[
        bool | UnsetType, Meta(description="finite values that the dtype can't hold are accepted")
    ] = UNSET
    square: list[str]
    steps: list[PlannedStep]
    derived: list[PlannedRecipe]
    owed: list[PlannedRecipe]
    source_leaves: dict[str, SourceLeaf]
    target_leaves: dict[str, TargetLeaf]
    missing: Annotated[
        dict[str, str] | UnsetType,
        Meta(description="leaves that the source lacks, as the user accepts, and why they ought to be there"),
    ] = UNSET
    deviations: list[PlannedDeviation] | UnsetType = UNSET
    unknown: Annotated[
        list[str] | UnsetType,
        Meta(description="fields of the source's config that its class doesn't know; they are kept as complement"),
    ] = UNSET
    warnings: list[str]
    summary: Figures
    through: Annotated[
        list[PlanDocument] | UnsetType,
        Meta(description="the plans of a chain's mappings, each of what the one before makes"),
    ] = UNSET


def planned_step(step: Step) -> PlannedStep:
    """Write all that is needed to carry out the step, or to undo it."""
    copies = [name for name, _ in step.also if name in step.copies]
    all_copied = len(copies) == len(step.also)
    return PlannedStep(
        rule=step.rule,
        op="value" if step.value else "rearrange",
        exactness=exactness_in(step.exactness),
        sources=[_side(side) for side in step.sources],
        targets=[_side(side) for side in step.targets],
        sizes=step.sizes,
        ops=[op_in(op) for op in step.ops] or UNSET,
        pad=_edge(step.pad) if step.pad else UNSET,
        crop=_edge(step.crop) if step.crop else UNSET,
        folded=_fold(step.folded) if step.folded else UNSET,
        kept=list(step.kept) or UNSET,
        same=list(step.same) or UNSET,
        also=list(step.also) or UNSET,
        copied=all_copied if step.also else UNSET,
        copies=copies if copies and not all_copied else UNSET,
    )


def planned_recipe(leaf: DerivedLeaf) -> PlannedRecipe:
    """How a leaf is computed."""
    return PlannedRecipe(leaf.key, leaf.recipe, leaf.arguments, list(leaf.of) or UNSET)


def source_leaf(leaf: Leaf, fate: dict[str, Any]) -> SourceLeaf:
    """A leaf with its fate."""
    return SourceLeaf(shape=_shape(leaf), dtype=leaf.spec.dtype if leaf.spec else None, **fate)


def target_leaf(leaf: Leaf, origin: dict[str, Any]) -> TargetLeaf:
    """A leaf with its origin."""
    return TargetLeaf(shape=_shape(leaf), dtype=leaf.spec.dtype if leaf.spec else None, **origin)


def exactness_in(exactness: Exactness) -> UlpBound | Literal["exact"]:
    """``"exact"``, or the bound."""
    return "exact" if exactness.exact else UlpBound(exactness.ulp, exactness.dtype)


def op_in(op: Elementwise) -> CastOp | ShiftOp | ScaleOp:
    """What is done to values."""
    match op:
        case Shift():
            return ShiftOp(op.by)
        case Scale():
            return ScaleOp(1.0 / op.by if op.divide else op.by)
        case Cast():
            return CastOp(op.source, op.target)


def _side(side: Side) -> StepSide:
    return StepSide(side.key, str(side.axes), dict(side.at))


def _edge(edge: Padding) -> PlannedEdge:
    return PlannedEdge(edge.axis, edge.keep, edge.fill, edge.kept_as or UNSET)


def _fold(fold: Fold) -> PlannedFold:
    return PlannedFold(fold.side, fold.key, fold.by, fold.recipe, fold.arguments, exactness_in(fold.exactness))


def _shape(leaf: Leaf) -> list[int] | None:
    return list(leaf.spec.shape) if leaf.spec else None
