"""What the checks read of plans and receipts: types of their own, and only what they need.

Nothing here is shared with what makes plans. A plan that contradicts itself, such as a step about a leaf that it
doesn't list, is refused when it is read, so that the checks can rely on what they have.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType, field

from convkit.checkpoint import TensorSpec
from convkit.checkpoint.digests import ALGORITHMS
from convkit.checkpoint.tensors import ITEMSIZE
from convkit.checkpoint.wrapping import PLAIN, Wrapping
from convkit.errors import ConvkitError
from convkit.files.document import typed
from convkit.files.receipt import receipts_beside
from convkit.files.receipt_json import Natural, WrittenFile

_T = TypeVar("_T")
_REMEDY = "make it again: convert again, or report it"


class Planned(Struct, frozen=True):
    """A leaf of the plan; a value has neither shape nor dtype."""

    shape: tuple[Natural, ...] | None
    dtype: str | None

    def __post_init__(self) -> None:
        if (self.shape is None) != (self.dtype is None):
            raise ValueError("a leaf has a shape and a dtype, or neither")
        try:
            _ = self.spec
        except ConvkitError as error:
            raise ValueError(error.problem) from None

    @property
    def spec(self) -> TensorSpec | None:
        """Shape and dtype of a tensor."""
        return None if self.shape is None or self.dtype is None else TensorSpec(self.shape, self.dtype)

    @property
    def tensor(self) -> TensorSpec:
        """Shape and dtype of what is known to be a tensor."""
        assert self.spec
        return self.spec


class SourceLeaf(Planned, frozen=True):
    """A leaf of the source, and what becomes of it."""

    fate: str


class TargetLeaf(Planned, frozen=True):
    """A leaf of the target, and where it comes from."""

    origin: str
    value: Any = None  # of a leaf that the conversion stated


class Side(Struct, frozen=True):
    """One side of a conversion or a repair."""

    format: str
    layout: str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    config_file: str = ""  # what a folder calls the config; plans didn't say at first
    wrapped: Wrapping = PLAIN  # what the stored keys of a source have beside the model's own names


class Deviation(Struct, frozen=True):
    """A value of a config that the other side says only nearly, and what it is taken as."""

    side: Literal["source", "target", "between"]
    field: Annotated[str, Meta(min_length=1)]
    value: Any
    taken_as: Any
    reason: str


class Described(Struct, frozen=True):
    """What plans of conversions and of repairs have in common."""

    source: Side
    target: Side
    source_leaves: dict[str, SourceLeaf]
    target_leaves: dict[str, TargetLeaf]
    names: dict[str, Any] = field(default_factory=dict)
    dtype: str | None = None
    deviations: tuple[Deviation, ...] = ()
    missing: dict[str, str] = {}  # leaves that the source lacked, as the user accepted, and why they were expected


class Bound(Struct, frozen=True):
    """How many units in the last place of a dtype a value may move."""

    ulp: Annotated[float, Meta(ge=0)]
    dtype: str

    def __post_init__(self) -> None:
        if "float" not in self.dtype or self.dtype not in ITEMSIZE:
            raise ValueError(f"no floating-point dtype {self.dtype!r}")


Exactness = Literal["exact"] | Bound


class Cast(Struct, frozen=True, tag_field="op", tag="cast"):
    """Values rounded to another dtype."""

    from_: str = field(name="from")
    to: str

    def __post_init__(self) -> None:
        for dtype in (self.from_, self.to):
            if "float" not in dtype or dtype not in ITEMSIZE:
                raise ValueError(f"no floating-point dtype {dtype!r}")


class Shift(Struct, frozen=True, tag_field="op", tag="shift"):
    """A number added to values."""

    by: float


class Scale(Struct, frozen=True, tag_field="op", tag="scale"):
    """Values multiplied by a number."""

    by: float


Op = Cast | Shift | Scale


class Part(Struct, frozen=True):
    """A leaf's part in a step: its axes, and where it stands on those in its key."""

    key: str
    axes: str
    at: dict[str, Natural]


class Edge(Struct, frozen=True):
    """Where a leaf is padded or cropped: beyond ``keep`` on ``axis``."""

    axis: int
    keep: Natural
    fill: float
    kept_as: str = ""


class Fold(Struct, frozen=True):
    """A leaf that is multiplied, by what a recipe makes of another leaf or by a number."""

    side: Literal["source", "target"]
    key: str
    by: str
    recipe: str
    arguments: dict[str, Any]
    exactness: Exactness


class Step(Struct, frozen=True, kw_only=True):
    """Some leaves of the source that become some of the target."""

    rule: str
    op: Literal["rearrange", "value"] = "rearrange"
    exactness: Exactness
    sources: Annotated[tuple[Part, ...], Meta(min_length=1)]
    targets: Annotated[tuple[Part, ...], Meta(min_length=1)]
    sizes: dict[str, Natural]
    ops: tuple[Op, ...] = ()
    pad: Edge | None = None
    crop: Edge | None = None
    folded: Fold | None = None
    same: tuple[tuple[str, str], ...] = ()
    also: tuple[tuple[str, str], ...] = ()


class Computed(Struct, frozen=True):
    """A leaf that a recipe gives."""

    key: str
    recipe: str
    arguments: dict[str, Any]
    of: tuple[str, ...] = ()


class Plan(Described, frozen=True, kw_only=True):
    """The plan of a conversion, as far as it takes to undo it."""

    mapping: str
    steps: tuple[Step, ...]
    derived: tuple[Computed, ...]
    owed: tuple[Computed, ...]
    restored_from: int | None = None
    through: tuple[Plan, ...] = ()

    def __post_init__(self) -> None:
        for number, step in enumerate(self.steps):
            if problem := next(self._problems(step), None):
                raise ValueError(f"steps[{number}]: {problem}")
        for computed, leaves, side in (
            (self.derived, self.source_leaves, "source"),
            (self.owed, self.target_leaves, "target"),
        ):
            for leaf in computed:
                if leaf.key not in leaves or leaves[leaf.key].spec is None:
                    raise ValueError(f"{leaf.key} isn't a tensor of {side}_leaves")

    def _problems(self, step: Step) -> Iterator[str]:
        tensors = step.op != "value"
        sides: tuple[tuple[str, tuple[Part, ...], Mapping[str, Planned], Edge | None], ...] = (
            ("source", step.sources, self.source_leaves, step.crop),
            ("target", step.targets, self.target_leaves, step.pad),
        )
        for side, parts, leaves, edge in sides:
            for part in parts:
                leaf = leaves.get(part.key)
                if leaf is None:
                    yield f"the plan lacks {part.key} in {side}_leaves"
                elif (leaf.spec is not None) != tensors:
                    yield f"{part.key} isn't a {'tensor' if tensors else 'value'} of {side}_leaves"
                elif edge and not _fits(edge, leaf.shape or ()):
                    yield f"{part.key} has no {edge.keep} elements on axis {edge.axis}"
        targets = {part.key for part in step.targets}
        if strange := next((of for _, of in step.also if of not in targets), None):
            yield f"{strange} isn't a target of the step"
        if step.folded and step.folded.key not in {part.key for part in getattr(step, f"{step.folded.side}s")}:
            yield f"{step.folded.key} isn't a {step.folded.side} of the step"


def _fits(edge: Edge, shape: tuple[int, ...]) -> bool:
    return -len(shape) <= edge.axis < len(shape) and edge.keep <= shape[edge.axis]


# --- receipts ---------------------------------------------------------------------------------------------------------


def _known_digest(digest: str) -> None:
    if digest.partition(":")[0] not in ALGORITHMS:
        raise ValueError(f"no digest {digest.partition(':')[0]!r}")


class Digested(Struct, frozen=True):
    """What is recorded of a leaf."""

    digest: str

    def __post_init__(self) -> None:
        _known_digest(self.digest)


class File(Struct, frozen=True):
    """A file of a checkpoint: its path in the checkpoint's folder, and its bytes."""

    name: str
    bytes: Natural


class Source(Struct, frozen=True):
    """What was read."""

    path: str
    leaves: dict[str, Digested] = field(default_factory=dict)  # repairs and migrations record none


class Written(Struct, frozen=True):
    """What was written: its name."""

    path: str = ""


class Target(Written, frozen=True, kw_only=True):
    """What was written, and its leaves."""

    format: str
    files: tuple[File, ...]
    leaves: dict[str, Digested]


class Complement(Struct, frozen=True):
    """What lies beside the target, or in the receipt itself."""

    tensors: dict[str, Digested]
    values: dict[str, Any] = field(default_factory=dict)


class Receipt(Struct, frozen=True, kw_only=True):
    """What every receipt has. Its plan stays as it is written: that is what ``plan_digest`` is of."""

    convkit: str
    started: str
    source: Source
    plan: dict[str, Any]
    plan_digest: str
    target: Written
    written: tuple[WrittenFile, ...] | UnsetType = UNSET  # of earlier releases


class LeafReceipt(Receipt, frozen=True, kw_only=True):
    """The receipt of a conversion or a repair, which vouches for leaves."""

    target: Target
    complement: Complement


class Repair(Struct, frozen=True):
    """One thing that a repair changed."""

    what: str
    key: str | None
    after: Any


class RepairReceipt(LeafReceipt, frozen=True, kw_only=True):
    """The receipt of a repair."""

    repairs: tuple[Repair, ...] = ()
    dataloader: Any | UnsetType = UNSET


class DigestedFile(Struct, frozen=True):
    """What is recorded of a file."""

    bytes: Natural
    digest: str

    def __post_init__(self) -> None:
        _known_digest(self.digest)


class Item(Struct, frozen=True):
    """An item of a migrated checkpoint: its name in the source, and why it was rewritten, if it was."""

    source: str
    rewritten: str | None


class MigratedPart(Struct, frozen=True):
    """A part of a migrated checkpoint."""

    name: str
    items: dict[str, Item]
    files: dict[str, DigestedFile]
    left_out: dict[str, Any]


class Request(Struct, frozen=True):
    """What was asked of a migration."""

    steps: tuple[int, ...]


class MigrationPlan(Struct, frozen=True):
    """The plan of a migration."""

    request: Request
    source_leaves: dict[str, dict[str, Any]] = {}


class FileReceipt(Receipt, frozen=True, kw_only=True):
    """The receipt of a migration, which vouches for files."""

    parts: tuple[MigratedPart, ...]


def read(type_: type[_T], document: Any, target: Path | None = None) -> _T:
    """A receipt of ``target``, as JSON, as this type.

    Raises:
        ConvkitError: it isn't one; the file and the JSON path are named.
    """
    if isinstance(document, type_):
        return document
    beside = receipts_beside(target) if target else []
    return typed(type_, document, beside[0] if beside else target, remedy=_REMEDY)


def read_plan(type_: type[_T], plan: Any, target: Path | None = None) -> _T:
    """The plan of a receipt of ``target``, or one just made, as this type.

    Raises:
        ConvkitError: it isn't one, or contradicts itself.
    """
    if isinstance(plan, type_):
        return plan
    beside = receipts_beside(target) if target else []
    root = "$.plan" if beside else "$"
    return typed(type_, plan, beside[0] if beside else None, root=root, remedy=_REMEDY)


replace = msgspec.structs.replace
