"""The plan: the fate of every source leaf and the origin of every target leaf."""

from __future__ import annotations

import contextlib
from collections import abc
from functools import cached_property
from typing import Any

from msgspec import UNSET, Struct, field
from msgspec.structs import force_setattr

from convkit.checkpoint import Leaf
from convkit.checkpoint.digests import digest_value
from convkit.checkpoint.tensors import dtype_called
from convkit.checkpoint.wrapping import PLAIN, Wrapping
from convkit.errors import UsageError
from convkit.files.complement import kept_as
from convkit.files.receipt import from_json_value
from convkit.formats import get_format
from convkit.mapping import Chain, Mapping
from convkit.plan import peak
from convkit.plan.earlier import Before
from convkit.plan.following import followed_fates, followed_origins
from convkit.plan.plan_json import (
    Default,
    Figures,
    PlanDocument,
    PlannedDeviation,
    PlannedSource,
    PlannedTarget,
    planned_recipe,
    planned_step,
    source_leaf,
    target_leaf,
)
from convkit.plan.step import Bound, DerivedLeaf


class Options(Struct, frozen=True):
    """The options of a conversion, beside its destination.

    ``mup`` are base sizes and other fields of muP that the target gets.
    ``release`` is the target's, or the source's where only that has releases; ``from_release`` is the source's.
    ``allow_missing`` are names or patterns of leaves that may be missing though something says that they must be there.
    ``dtype`` may be spelled as people do: bf16, half, torch.float32. ``given`` are sizes by declared name, ``choices``
    are variants' choices by their name. ``existing`` are the leaves of a target that another program made and that the
    plan must describe: where it may choose or leave out names, it follows that target. ``drop_unclaimed`` drops the
    leaves that no rule claims, too; the target must be whole without them. ``seed`` is that of the tensors that the
    source lacks, and that are drawn for it.
    """

    format: str | None = None
    release: tuple[int, ...] = ()
    from_release: tuple[int, ...] = ()
    mup: abc.Mapping[str, Any] = field(default_factory=dict)
    drop: tuple[str, ...] = ()
    drop_unclaimed: bool = False
    dtype: str | None = None
    allow_overflow: bool = False
    headless: bool = False
    allow_missing: tuple[str, ...] = ()
    restore: bool = True
    seed: int | None = None
    given: dict[str, Any] = field(default_factory=dict)
    choices: dict[str, str] = field(default_factory=dict)
    existing: dict[str, Leaf] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.dtype is not None:
            force_setattr(self, "dtype", dtype_called(self.dtype))


class Plan(Struct, frozen=True, dict=True):
    """A mapping bound to one checkpoint, or a chain of mappings.

    ``to_compute`` are leaves of the target that recipes compute, ``restored`` those from the complement of an earlier
    conversion, where ``restored_from`` is the place of the mapping that lost them. ``missing`` are leaves that the
    source lacks, as the user accepts, each with what says that it ought to be there. ``deviations`` are values of a
    config that the other side says only nearly, ``unknown`` fields that the source's config class doesn't know.
    ``unclaimed`` are leaves that no rule claims, and that the user drops unnamed.
    ``before`` are mappings of earlier conversions, of which the receipt keeps what they lost.
    ``wrapping`` is what the stored keys of the source have beside the model's own names, by which the plan calls them.
    The plan of a chain has no steps of its own: ``through`` are the plans of its mappings, each for the output of the
    one before.
    """

    mapping: Mapping | Chain
    source_format: str
    target_format: str
    variant: dict[str, str]
    source_config: dict[str, Any]
    target_config: dict[str, Any]
    names: dict[str, Any]
    defaults: tuple[dict[str, Any], ...]
    lost_config: dict[str, Any]
    release: tuple[int, ...]
    bound: Bound
    dropped: tuple[str, ...]
    to_compute: list[DerivedLeaf]
    restored: dict[str, Leaf]
    source_leaves: dict[str, Leaf]
    target_leaves: dict[str, Leaf]
    warnings: list[str]
    dtype: str | None = None
    allow_overflow: bool = False
    missing: dict[str, str] = field(default_factory=dict)
    deviations: tuple[PlannedDeviation, ...] = ()
    unknown: tuple[str, ...] = ()
    unclaimed: tuple[str, ...] = ()
    restored_from: int = 0
    wrapping: Wrapping = PLAIN
    through: tuple[Plan, ...] = ()
    before: tuple[Before, ...] = ()

    @cached_property
    def digest(self) -> str:
        """The plan's identity: sha256 over its canonical JSON."""
        return digest_value("sha256", self.to_json())

    @property
    def stages(self) -> tuple[Plan, ...]:
        """The plans of single mappings, in their order."""
        return self.through or (self,)

    @property
    def exact(self) -> bool:
        """Whether no bit of any tensor changes."""
        steps = [step for plan in self.stages for step in plan.bound.steps]
        return all(step.exactness.exact and step.folded is None for step in steps)

    def fates(self) -> dict[str, dict[str, Any]]:
        """The fate of every source leaf, in the order of the source."""
        if self.through:
            return followed_fates([plan.fates() for plan in self.through], [plan.bound.steps for plan in self.through])
        fates: dict[str, dict[str, Any]] = {}
        for number, step in enumerate(self.bound.steps):
            copied = any(name in step.copies for name, _ in step.also)
            for side in step.sources:
                fates[side.key] = {"fate": "copied" if copied else "moved", "step": number}
            if (fold := step.folded) and fold.side == "source":
                factors = f"the factors from {fold.by}" if fold.by else f"{fold.arguments['factor']}"
                fates[fold.key] = {"fate": "folded", "step": number, "reason": f"multiplied by {factors}"}
            for name, of in step.same:
                fates[name] = {"fate": "tied", "step": number, "reason": f"must equal {of}"}
        for leaf in self.bound.derived:
            fates[leaf.key] = {"fate": "derived", "reason": leaf.recipe}
        for key, reason in self.bound.left_behind.items():
            fates[key] = {"fate": "left behind", "reason": reason}
        for key in self.dropped:
            fates[key] = {"fate": "dropped", "reason": "by name"}
        for key in self.unclaimed:
            fates[key] = {"fate": "dropped", "reason": "no rule claims it"}
        return {key: fates[key] for key in self.source_leaves if key in fates}

    def origins(self) -> dict[str, dict[str, Any]]:
        """The origin of every target leaf."""
        if self.through:
            steps = [plan.bound.steps for plan in self.through]
            return followed_origins([plan.origins() for plan in self.through], steps)
        origins: dict[str, dict[str, Any]] = {}
        for number, step in enumerate(self.bound.steps):
            for side in step.targets:
                origins[side.key] = {"origin": "moved", "step": number}
            if step.folded and step.folded.side == "target":
                reason = "from the complement, as it was before it was multiplied"
                origins[step.folded.key] = {"origin": "restored", "step": number, "reason": reason}
            for key in step.kept:
                reason = "from the complement, as it was before it was shifted"
                origins[key] = {"origin": "restored", "step": number, "reason": reason}
            for name, of in step.also:
                word = "copied" if name in step.copies else "tied"
                origins[name] = {"origin": word, "step": number, "reason": f"as {of}"}
        for leaf in self.to_compute:
            origins[leaf.key] = {"origin": "derived", "reason": leaf.recipe}
        for key, stated in self.bound.stated.items():
            origins[key] = {"origin": "stated", "reason": stated.why, "value": stated.value}
        for key in self.restored:
            origins[key] = {"origin": "restored", "reason": "from the complement"}
        return origins

    def moved(self) -> dict[str, list[str]]:
        """The names in the target of each leaf of the source, or of what stands in its place."""
        found = {key: [key] for key in self.source_leaves}
        for plan in self.stages:
            own: dict[str, list[str]] = {}
            for step in plan.bound.steps:
                made = [*(side.key for side in step.targets), *(name for name, _ in step.also)]
                for side in step.sources:
                    own.setdefault(side.key, []).extend(made)
            in_place = (*plan.bound.stated, *plan.bound.filled, *plan.restored)
            own |= {key: [key] for key in in_place if key in plan.source_leaves}
            found = {key: [last for name in names for last in own.get(name, ())] for key, names in found.items()}
        return found

    def values_left_behind(self) -> dict[str, Any]:
        """Leaves that aren't tensors and that a mapping can't carry, by their names in the complement."""
        own = {
            kept_as(place, key): leaf.value
            for place, plan in enumerate(self.stages)
            for key in plan.bound.left_behind
            if (leaf := plan.source_leaves[key]).spec is None
        }
        for number, one in enumerate(self.before):
            own |= {kept_as(-number - 1, key): from_json_value(value) for key, value in one.values.items()}
        return own

    def bytes_read(self) -> int:
        """Bytes of the source's tensors."""
        return sum(leaf.spec.nbytes for leaf in self.source_leaves.values() if leaf.spec)

    def bytes_written(self) -> int:
        """Bytes of the target's tensors (a tied leaf is counted in full)."""
        return sum(leaf.spec.nbytes for leaf in self.target_leaves.values() if leaf.spec)

    def peak_bytes(self) -> int:
        """Predicted peak of anonymous memory with two threads (:mod:`convkit.plan.peak`)."""
        if self.through:
            return sum(plan.peak_bytes() for plan in self.through)
        steps = [step for step in self.bound.steps if not step.value]
        with contextlib.suppress(UsageError):  # a caller's own checkpoint may have no format
            if get_format(self.source_format).mapped:
                return peak.of_open_sources(steps)
        return peak.of_decoded_sources(steps)

    def square(self) -> list[str]:
        """Square tensors that are transposed: their shape can't show whether that is right."""
        found = [key for plan in self.through for key in plan.square()]
        for step in self.bound.steps:
            for source in step.sources:
                shape = source.spec.shape
                turned = any(
                    len(target.axes.dims) == 2 and target.axes.dims[0] == source.axes.dims[1]
                    for target in step.targets
                    if len(source.axes.dims) == 2
                )
                if len(shape) == 2 and shape[0] == shape[1] and turned:
                    found.append(source.key)
        return found

    def to_json(self) -> dict[str, Any]:
        """The document of schema ``convkit.plan/1``: self-contained, without paths."""
        return self.document().to_json()

    def document(self) -> PlanDocument:
        """The plan as it is written."""
        left, right = self.mapping.left, self.mapping.right
        fates, origins = self.fates(), self.origins()
        release = ".".join(map(str, self.release)) or None
        return PlanDocument(
            restored_from=self.restored_from or UNSET,
            mapping=self.mapping.name,
            source=PlannedSource(
                left.name,
                self.source_format,
                dict(left.conventions),
                self.source_config,
                self.wrapping or UNSET,
            ),
            target=PlannedTarget(
                right.name,
                self.target_format,
                release if right.releases else None,
                right.config_file,
                dict(right.conventions),
                self.target_config,
            ),
            release=release,
            variant=self.variant,
            names={name: value for name, value in self.names.items() if not callable(value)},
            defaults=[Default(**default) for default in self.defaults],
            lost_config=self.lost_config,
            exact=self.exact,
            dtype=self.dtype,
            allow_overflow=self.allow_overflow or UNSET,
            square=self.square(),
            steps=[planned_step(step) for step in self.bound.steps],
            derived=[planned_recipe(leaf) for leaf in self.bound.derived],
            owed=[planned_recipe(leaf) for leaf in self.to_compute],
            source_leaves={key: source_leaf(self.source_leaves[key], fate) for key, fate in fates.items()},
            target_leaves={key: target_leaf(leaf, origins[key]) for key, leaf in self.target_leaves.items()},
            missing=self.missing or UNSET,
            deviations=list(self.deviations) or UNSET,
            unknown=list(self.unknown) or UNSET,
            warnings=self.warnings,
            summary=Figures(
                len(self.source_leaves),
                len(self.target_leaves),
                self.bytes_read(),
                self.bytes_written(),
                self.peak_bytes(),
            ),
            through=[plan.document() for plan in self.through] or UNSET,
        )
