"""Read the conversion in the other direction from the receipt beside a source, as far as a plan needs it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from msgspec import Struct, field

from convkit.checkpoint import TensorSpec
from convkit.errors import ConvkitError
from convkit.files.complement import kept_at
from convkit.files.document import typed
from convkit.files.receipt import bare_names, receipts_beside, same_files
from convkit.files.receipt_json import FileEntry
from convkit.files.written import called_today
from convkit.mapping import ASKED, Mapping, split_name
from convkit.plan.plan_json import Natural, PlannedDeviation, PlannedFold, PlannedRecipe
from convkit.plan.source import Source


class EarlierLeaf(Struct, frozen=True):
    """A leaf that the earlier source had; a value has neither shape nor dtype."""

    shape: tuple[Natural, ...] | None
    dtype: str | None
    fate: str

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
        """Shape and dtype of a leaf that must be a tensor."""
        spec = self.spec
        assert spec
        return spec


class EarlierSide(Struct, frozen=True):
    """One side of the earlier conversion, with its config."""

    layout: str
    config: dict[str, Any] = field(default_factory=dict)
    release: str | None = None


class EarlierTargetLeaf(Struct, frozen=True):
    """A leaf that the earlier conversion made; what it is, if that conversion stated it."""

    origin: str
    value: Any = None


class EarlierStep(Struct, frozen=True):
    """A step of the earlier conversion."""

    folded: PlannedFold | None = None


class EarlierPlan(Struct, frozen=True, kw_only=True):
    """The plan of the earlier conversion."""

    source: EarlierSide
    target: EarlierSide
    names: dict[str, Any]
    variant: dict[str, str]
    lost_config: dict[str, Any] = field(default_factory=dict)
    steps: tuple[EarlierStep, ...]
    derived: tuple[PlannedRecipe, ...]
    owed: tuple[PlannedRecipe, ...] = ()
    dtype: str | None = None
    source_leaves: dict[str, EarlierLeaf]
    target_leaves: dict[str, EarlierTargetLeaf] = field(default_factory=dict)
    deviations: tuple[PlannedDeviation, ...] = ()
    through: tuple[EarlierPlan, ...] = ()

    @property
    def stages(self) -> tuple[EarlierPlan, ...]:
        """The plans of single mappings, in their order."""
        # early plans of chains held the steps of the last mapping, and described its source
        return self.through if self.through and not self.steps else (self,)

    @property
    def stated(self) -> dict[str, Any]:
        """The values that the earlier conversion stated."""
        return {key: leaf.value for key, leaf in self.target_leaves.items() if leaf.origin == "stated"}

    @property
    def config_before(self) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """The config that the earlier conversion wrote, and the one that it read, where it led from release to release;
        None where configs show what there is to convert.
        """
        ends = (split_name(side.layout)[0] for side in (self.source, self.target))
        return (self.target.config, self.source.config) if len(set(ends)) == 1 else None

    @property
    def filled(self) -> dict[str, Any]:
        """The numbers with which the earlier conversion filled tensors in place of the source's, by their keys."""
        had = self.source_leaves
        gone = (leaf for leaf in self.owed if leaf.key in had and had[leaf.key].fate == "left behind")
        return {leaf.key: leaf.arguments["value"] for leaf in gone if leaf.recipe == "filled"}

    def __post_init__(self) -> None:
        for leaf in self.derived:
            if leaf.key not in self.source_leaves or self.source_leaves[leaf.key].spec is None:
                raise ValueError(f"{leaf.key} isn't a tensor of source_leaves")


class EarlierComplement(Struct, frozen=True):
    """The complement of the earlier conversion: tensors in a file, values and config fields in its receipt."""

    tensors: dict[str, Any] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)


class EarlierTarget(Struct, frozen=True):
    """The files that the earlier conversion wrote, and the name of what they make up."""

    files: list[FileEntry]
    path: str = ""


class EarlierReceipt(Struct, frozen=True):
    """The receipt of the earlier conversion, with the plans of those before it of which it keeps what they lost."""

    target: EarlierTarget
    plan: EarlierPlan
    complement: EarlierComplement | None = None
    before: tuple[EarlierPlan, ...] = ()

    @property
    def stages(self) -> list[tuple[int, EarlierPlan]]:
        """The plans of single mappings by their places (:mod:`convkit.files.complement`), in the order of time."""
        return [*((-n - 1, one) for n, one in enumerate(self.before)), *enumerate(self.plan.stages)]


class Earlier(Struct, frozen=True):
    """The record of an earlier conversion in the other direction, which this one restores.

    ``place`` is that of its mapping among those that the receipt records.
    """

    plan: EarlierPlan
    complement: EarlierComplement
    place: int


class Before(Struct, frozen=True):
    """A mapping before this conversion, which is neither undone by it nor forgotten.

    ``plan`` is as the receipt beside the source has it, ``place`` its place there, and ``values`` are those that it
    lost.
    """

    place: int
    plan: dict[str, Any]
    values: dict[str, Any]


def earlier_of(source: Source, links: Sequence[Mapping]) -> tuple[list[Earlier | None], tuple[Before, ...]]:
    """Find, for each mapping, what the receipt beside the source records about its inverse; and what remains.

    The first mapping undoes the last one in the receipt, the second mapping the one before, and so on. A mapping that
    leads to another framework passes over those that brought the source from release to release.

    Raises:
        ConvkitError: the receipt is malformed.
    """
    found: list[Earlier | None] = [None] * len(links)
    receipt = _receipt(source)
    if receipt is None:
        return found, ()
    kept, stages = receipt.complement or EarlierComplement(), receipt.stages
    left = at = len(stages)
    for number, link in enumerate(links):
        while at and not _undoes(link, stages[at - 1][1]) and _passes(link, stages[at - 1][1]):
            at -= 1
        if not at or not _undoes(link, stages[at - 1][1]):
            break
        left = at = at - 1
        place, stage = stages[at]
        found[number] = Earlier(stage, _part(kept, place, stage) if len(stages) > 1 else kept, place)
    same = split_name(links[0].left.name)[0] == split_name(links[-1].right.name)[0]
    return found, tuple(_before(source, kept, stages[:left])) if same else ()


def _undoes(link: Mapping, stage: EarlierPlan) -> bool:
    alike = (ASKED in link.recalled) == (ASKED in stage.names)
    return alike and (stage.source.layout, stage.target.layout) == (link.right.name, link.left.name)


def _passes(link: Mapping, stage: EarlierPlan) -> bool:
    """Whether a mapping may undo what was before a stage: one from a layout to the same one, of another release or in
    another format. What another format undoes is the last format alone.
    """
    stays = split_name(stage.source.layout)[0] == split_name(stage.target.layout)[0] and ASKED not in stage.names
    return stays and (link.left.name != link.right.name or ASKED in link.recalled)


def _before(source: Source, kept: EarlierComplement, stages: Sequence[tuple[int, EarlierPlan]]) -> Iterator[Before]:
    document = source.receipt or {}
    own = document["plan"].get("through") or [document["plan"]]
    for place, _ in stages:
        plan = own[place] if place >= 0 else document["before"][-place - 1]
        yield Before(place, plan, {key: kept.values[name] for key, name in kept_at(place, kept.values).items()})


def layouts_before(source: Source) -> list[str]:
    """The layouts that a source had before the conversions that its receipt records.

    Raises:
        ConvkitError: the receipt is malformed.
    """
    receipt = _receipt(source)
    return [stage.source.layout for _, stage in receipt.stages] if receipt else []


def asked_before(source: Source) -> dict[str, Any]:
    """The fields of the factors that a conversion which the receipt records has given a source
    (:func:`convkit.mappings.rescaled`). What has changed only the format since then is passed over.

    Raises:
        ConvkitError: the receipt is malformed.
    """
    receipt = _receipt(source)
    for _, stage in reversed(receipt.stages if receipt else []):
        if isinstance(found := stage.names.get(ASKED), dict) and isinstance(found.get("fields"), dict):
            return dict(found["fields"])
        if stage.dtype or (stage.source.layout, stage.source.config) != (stage.target.layout, stage.target.config):
            break
    return {}


def release_before(source: Source) -> str | None:
    """The release of the layout to which the conversion that its receipt records has brought a source.

    Raises:
        ConvkitError: the receipt is malformed.
    """
    receipt = _receipt(source)
    return receipt.plan.target.release if receipt else None


def _receipt(source: Source) -> EarlierReceipt | None:
    """The receipt of the conversion that wrote the source, if the source is still that conversion's."""
    document = source.receipt
    if document is None:
        return None
    remedy = "restore it, or convert without it: --no-restore"
    receipt = typed(EarlierReceipt, document, receipts_beside(source.path)[0], remedy=remedy)
    path = source.checkpoint.path
    files, recorded = same_files(path, source.checkpoint.files()), receipt.target.files
    if path.is_file():  # it may have been renamed with its receipt
        recorded = [FileEntry(called_today(one.name, receipt.target.path, path.name), one.bytes) for one in recorded]
    return receipt if recorded in (files, bare_names(files)) else None


def _part(kept: EarlierComplement, place: int, stage: EarlierPlan) -> EarlierComplement:
    """Select the part of a complement that one mapping of a chain lost."""
    tensors, values = (
        {key: known[name] for key, name in kept_at(place, known).items()} for known in (kept.tensors, kept.values)
    )
    return EarlierComplement(tensors, values, stage.lost_config)
