"""The plan: the fate of every source leaf and the origin of every target leaf, before a tensor is read.

A plan is total or it is refused: every source leaf has one fate (moved, copied, tied, derived, left
behind by a declared rule, dropped by name), every target leaf one origin (moved, copied, tied,
derived, restored from the complement of an earlier conversion).
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Set
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from convkit.bind import (
    PlanError,
    bind,
    choose_variants,
    detect_facts,
    detect_variants,
    made_derived,
    measured,
    owed_derived,
)
from convkit.checkpoint import Leaf
from convkit.config import ConfigError, Converted, merge, missing_from
from convkit.digests import digest_value
from convkit.errors import UsageError
from convkit.fold import Fold
from convkit.formats import get_format
from convkit.mapping import Mapping
from convkit.mappings import find_mapping
from convkit.ops import Exactness
from convkit.receipt import complement_path, from_json_value, read_receipt
from convkit.source import Source, bare_names, detect_layout, same_files
from convkit.steps import Bound, DerivedLeaf, Side, Step, cropped
from convkit.tensors import ITEMSIZE, NARROW, TensorSpec

SCHEMA = "convkit.plan/1"

#: Cerebras releases whose layout is known; 2.10 is the current one and has 2.9's layout.
CURRENT_RELEASE = (2, 10)
RELEASES = tuple((2, minor) for minor in range(1, 11))


@dataclass(frozen=True)
class Options:
    """What the user asks of a conversion, beside where to.

    ``given`` are sizes by declared name, ``choices`` are variants' choices by their name. ``existing``
    are the leaves of a target that others made, which the plan is to describe: of what it may spell or
    leave out, it does as they did.
    """

    format: str | None = None
    release: tuple[int, ...] = ()
    drop: tuple[str, ...] = ()
    dtype: str | None = None
    headless: bool = False
    restore: bool = True
    given: dict[str, Any] = field(default_factory=dict)
    choices: dict[str, str] = field(default_factory=dict)
    existing: dict[str, Leaf] = field(default_factory=dict)


@dataclass(frozen=True)
class Restored:
    """What an earlier conversion in the other direction recorded, and this one puts back."""

    plan: dict[str, Any]
    complement: dict[str, Any]
    path: Path


@dataclass
class Plan:
    """A mapping bound to one checkpoint; ``through`` are the plans that make that checkpoint in a chain."""

    mapping: Mapping
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
    owed: list[DerivedLeaf]
    restored: dict[str, Leaf]
    source_leaves: dict[str, Leaf]
    warnings: list[str]
    dtype: str | None = None
    target_leaves: dict[str, Leaf] = field(default_factory=dict)
    through: tuple[Plan, ...] = ()

    @cached_property
    def digest(self) -> str:
        """The plan's identity: sha256 over its canonical JSON."""
        return digest_value("sha256", self.to_json())

    @property
    def exact(self) -> bool:
        """Whether no bit of any tensor changes."""
        steps = [step for plan in (self, *self.through) for step in plan.bound.steps]
        return all(step.exactness.exact and step.folded is None for step in steps)

    def fates(self) -> dict[str, dict[str, Any]]:
        """What becomes of every source leaf, in the order of the source."""
        fates: dict[str, dict[str, Any]] = {}
        for number, step in enumerate(self.bound.steps):
            several = bool(step.also)
            for side in step.sources:
                fates[side.key] = {"fate": "copied" if several and step.copied else "moved", "step": number}
            if (fold := step.folded) and fold.side == "source":
                fates[fold.key] = {"fate": "folded", "step": number, "reason": f"multiplied by what {fold.by} gives"}
            for name, of in step.same:
                fates[name] = {"fate": "tied", "step": number, "reason": f"must equal {of}"}
        for leaf in self.bound.derived:
            fates[leaf.key] = {"fate": "derived", "reason": leaf.recipe}
        for key, reason in self.bound.left_behind.items():
            fates[key] = {"fate": "left behind", "reason": reason}
        for key in self.dropped:
            fates[key] = {"fate": "dropped", "reason": "by name"}
        return {key: fates[key] for key in self.source_leaves if key in fates}

    def origins(self) -> dict[str, dict[str, Any]]:
        """Where every target leaf comes from."""
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
                word = "copied" if step.copied else "tied"
                origins[name] = {"origin": word, "step": number, "reason": f"as {of}"}
        for leaf in self.owed:
            origins[leaf.key] = {"origin": "derived", "reason": leaf.recipe}
        for key in self.restored:
            origins[key] = {"origin": "restored", "reason": "from the complement"}
        return origins

    def bytes_read(self) -> int:
        """Bytes of the source's tensors."""
        return sum(leaf.spec.nbytes for leaf in self.source_leaves.values() if leaf.spec)

    def bytes_written(self) -> int:
        """Bytes of the target's tensors (a tied leaf is counted in full)."""
        return sum(leaf.spec.nbytes for leaf in self.target_leaves.values() if leaf.spec)

    def peak_bytes(self) -> int:
        """Predicted peak of anonymous memory, with two threads: a fixed part, and what they hold of decoded sources."""
        if self.source_format in ("safetensors", "torch"):
            return 96 << 20
        steps = (step for step in self.bound.steps if not step.value)
        held = max((sum(side.spec.nbytes for side in step.sources) for step in steps), default=0)
        return (256 << 20) + 2 * held

    def square(self) -> list[str]:
        """Square tensors that are transposed: their shape can't show whether that is right."""
        found = []
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
        fates, origins = self.fates(), self.origins()
        release = ".".join(map(str, self.release)) or None
        return {
            "schema": SCHEMA,
            "mapping": self.mapping.name,
            "source": {
                "layout": self.mapping.left.name,
                "format": self.source_format,
                "conventions": dict(self.mapping.left.conventions),
                "config": self.source_config,
            },
            "target": {
                "layout": self.mapping.right.name,
                "format": self.target_format,
                "release": release if self.mapping.right.releases else None,
                "conventions": dict(self.mapping.right.conventions),
                "config": self.target_config,
            },
            "release": release,
            "variant": self.variant,
            "names": {name: value for name, value in self.names.items() if not callable(value)},
            "defaults": list(self.defaults),
            "lost_config": self.lost_config,
            "exact": self.exact,
            "dtype": self.dtype,
            "square": self.square(),
            "steps": [step.to_json() for step in self.bound.steps],
            "derived": [leaf.to_json() for leaf in self.bound.derived],
            "owed": [leaf.to_json() for leaf in self.owed],
            "source_leaves": {key: _leaf_json(self.source_leaves[key]) | fate for key, fate in fates.items()},
            "target_leaves": {key: _leaf_json(leaf) | origins[key] for key, leaf in self.target_leaves.items()},
            "warnings": self.warnings,
            "summary": {
                "source_leaves": len(self.source_leaves),
                "target_leaves": len(self.target_leaves),
                "bytes_read": self.bytes_read(),
                "bytes_written": self.bytes_written(),
                "peak_bytes": self.peak_bytes(),
            },
        } | ({"through": [plan.to_json() for plan in self.through]} if self.through else {})


def make_plan(source: Source, to: str | Mapping, from_: str | None = None, options: Options | None = None) -> Plan:
    """Decide the fate of every leaf of ``source`` on its way to the layout ``to``.

    ``to`` may also be a mapping of the caller's own, whose left side the source has.

    Raises:
        PlanError: the plan isn't total, or the config contradicts the tensors.
        ConfigError: the config can't be expressed in the target layout.
        UsageError: an unknown layout, format, dtype or release.
    """
    options = options or Options()
    mapping = to if isinstance(to, Mapping) else find_mapping(detect_layout(source, from_)[0].name, to)
    target_format = options.format or mapping.right.format
    get_format(target_format)
    floats = [name for name in ITEMSIZE if name.startswith(("float", "bfloat")) and name not in NARROW]
    if options.dtype and options.dtype not in floats:
        raise UsageError(f"{options.dtype!r} is no floating-point dtype", remedy="float32, float16, bfloat16, ...")
    release = _release(mapping, options.release)
    restored = _earlier(source, mapping) if options.restore and not options.headless else None
    try:
        return _plan(source, mapping, target_format, release=release, options=options, restored=restored)
    except (PlanError, ConfigError) as error:
        if error.path is not None:
            raise
        path = (isinstance(error, ConfigError) and source.config_path) or source.path
        raise type(error)(error.problem, path=path, key=error.key, remedy=error.remedy) from None


def _plan(
    source: Source,
    mapping: Mapping,
    target_format: str,
    *,
    release: tuple[int, ...],
    options: Options,
    restored: Restored | None,
) -> Plan:
    leaves = source.checkpoint.leaves
    theirs = [variant.inverse() for variant in mapping.variants if variant.side == "right"]
    spelled = detect_variants(theirs, options.existing, {}) if options.existing else {}
    before = (restored.plan["variant"] if restored else {}) | spelled | options.choices
    seen = detect_variants(mapping.variants, leaves, before)
    sizes = _remembered(mapping, restored, options.given) | options.given
    facts = detect_facts(mapping.facts, leaves, seen) | measured(mapping.measures, leaves, seen, sizes)
    config = source.config or {}
    headless = options.headless or bool(restored and restored.plan["names"].get("headless"))
    converted = mapping.config.convert(config, {**facts, **seen, "headless": headless}, release)
    chosen = choose_variants(mapping.variants, before, converted.names)
    names = converted.names | chosen
    dropped = _dropped(options.drop, leaves)
    kept = {key: leaf for key, leaf in leaves.items() if key not in dropped}
    try:
        bound = bind(mapping, kept, names, options.dtype)
    except PlanError as error:
        if error.key not in dropped:
            raise
        raise PlanError("is needed for the target", key=error.key, remedy="don't drop it") from None
    plan = Plan(
        mapping=mapping,
        source_format=source.checkpoint.format,
        target_format=target_format,
        variant=seen | chosen,
        source_config=config,
        target_config=converted.config,
        names=names,
        defaults=converted.defaults,
        lost_config=_lost_config(mapping, config, converted, release),
        release=release,
        bound=bound,
        dropped=dropped,
        owed=[],
        restored={},
        source_leaves=leaves,
        warnings=list(converted.warnings),
        dtype=options.dtype,
    )
    if restored:
        _restore(plan, restored)
    if options.existing:
        _describe(plan, options.existing)
    plan.owed += _made(plan)
    plan.target_leaves = _target_leaves(plan)
    _check_total(plan)
    return plan


def _describe(plan: Plan, existing: dict[str, Leaf]) -> None:
    """Of a leaf's several names, and of buffers that aren't owed, keep those that a target of others has."""
    if not get_format(plan.target_format).ties:  # such a format's writers drop copies
        plan.bound.steps = [_only_names(step, existing.keys()) for step in plan.bound.steps]
    made = {side.key for step in plan.bound.steps for side in step.targets}
    for leaf in owed_derived(plan.mapping, existing.keys() - made, plan.names):
        spec = existing[leaf.key].spec
        if spec is not None:
            plan.owed.append(replace(leaf, spec=spec))


def _made(plan: Plan) -> list[DerivedLeaf]:
    """Leaves that follow from others of the target, but for those that come back from an earlier conversion."""
    leaves = {side.key: side.spec for step in plan.bound.steps if not step.value for side in step.targets}
    known = plan.restored.keys() | {leaf.key for leaf in plan.owed}
    return [leaf for leaf in made_derived(plan.mapping, leaves, plan.names) if leaf.key not in known]


def _remembered(mapping: Mapping, restored: Restored | None, given: dict[str, Any]) -> dict[str, Any]:
    """Sizes that the source's leaves can't tell and the receipt of the earlier conversion does.

    Raises:
        PlanError: the user says otherwise.
    """
    known = restored.plan["names"] if restored else {}
    sizes = {m.name: known[m.name] for m in mapping.measures if m.left is None and m.name in known}
    for name, size in sizes.items():
        if given.get(name, size) != size:
            raise PlanError(
                f"its receipt says {name} = {size}, not {given[name]}", remedy="correct the size, or leave it out"
            )
    return sizes


def _lost_config(
    mapping: Mapping, config: dict[str, Any], converted: Converted, release: tuple[int, ...]
) -> dict[str, Any]:
    """What converting the config back wouldn't bring back."""
    if not config:
        return {}
    try:
        back = mapping.config.inverse().convert(converted.config, converted.names, release).config
    except ConfigError:
        return converted.lost
    return missing_from(back, config)


def _release(mapping: Mapping, release: tuple[int, ...]) -> tuple[int, ...]:
    if not (mapping.left.releases or mapping.right.releases):
        if release:
            raise UsageError(f"{mapping.name} is the same in every release", remedy="leave out --release")
        return ()
    if release and release not in RELEASES:
        shown = ".".join(map(str, release))
        raise UsageError(f"no mapping for release {shown}", remedy="releases 2.1 ... 2.10")
    return release or CURRENT_RELEASE


def _dropped(patterns: Iterable[str], leaves: Iterable[str]) -> tuple[str, ...]:
    keys = list(leaves)
    found: dict[str, None] = {}
    for pattern in patterns:
        matched = [key for key in keys if key == pattern] or fnmatch.filter(keys, pattern)
        if not matched:
            raise UsageError(f"--drop {pattern}: no leaf has that name", remedy="see convkit inspect")
        found.update(dict.fromkeys(matched))
    return tuple(found)


def _earlier(source: Source, mapping: Mapping) -> Restored | None:
    """The receipt beside the source, when it tells of the conversion that this one undoes."""
    receipt = read_receipt(source.path)
    if receipt is None:
        return None
    plan = receipt["plan"]
    if (plan["source"]["layout"], plan["target"]["layout"]) != (mapping.right.name, mapping.left.name):
        return None
    files = same_files(source.checkpoint.path, source.checkpoint.files())
    if receipt["target"]["files"] not in (files, bare_names(files)):
        return None
    return Restored(plan, receipt.get("complement") or {}, complement_path(source.path))


def _restore(plan: Plan, earlier: Restored) -> None:
    """Give the target the names, buffers, left-behind leaves and config fields that the source once had."""
    had = earlier.plan["source_leaves"]
    kept = earlier.complement.get("tensors", {})
    steps = [_only_names(step, had.keys() - set(kept)) for step in plan.bound.steps]
    folds = {fold["key"]: fold for step in earlier.plan["steps"] if (fold := step.get("folded"))}
    folds = {key: fold for key, fold in folds.items() if key in kept}
    plan.bound.steps = [_unfolded(_unshifted(_refilled(step, earlier), earlier), folds, earlier) for step in steps]
    moved = {side.key for step in plan.bound.steps for side in step.targets}
    recomputed = [leaf["key"] for leaf in earlier.plan["derived"] if leaf["key"] not in kept]
    owed = owed_derived(plan.mapping, recomputed, plan.names)
    plan.owed = [replace(leaf, spec=_spec(had[leaf.key])) for leaf in owed]
    for key in kept:
        if key in had and key not in moved:  # the others are what was cropped of a leaf
            plan.restored[key] = Leaf(key, _spec(had[key]))
    for key, value in earlier.complement.get("values", {}).items():
        plan.restored[key] = Leaf(key, None, from_json_value(value))
    merge(plan.target_config, earlier.complement.get("config", {}))


def _refilled(step: Step, earlier: Restored) -> Step:
    """The step with padding from the complement, where what was cropped wasn't the fill."""
    key = step.targets[0].key
    if step.pad is None or cropped(key) not in earlier.complement.get("tensors", {}):
        return step
    if earlier.plan["source_leaves"][key]["dtype"] != step.sources[0].spec.dtype:
        raise PlanError(
            "its cropped part is kept in another dtype, and can't be put back",
            key=key,
            remedy="convert with the options of the first conversion, or remove its receipt",
        )
    return replace(step, pad=replace(step.pad, kept_as=cropped(key)))


def _unshifted(step: Step, earlier: Restored) -> Step:
    """The step with those leaves from the complement that it would shift back, and may round otherwise."""
    had, kept = earlier.plan["source_leaves"], earlier.complement.get("tensors", {})
    found = (side for side in step.targets if step.shifted and side.key in kept)
    return replace(step, kept=tuple(side.key for side in found if _spec(had[side.key]) == side.spec))


def _unfolded(step: Step, folds: dict[str, dict[str, Any]], earlier: Restored) -> Step:
    """The step with the leaf from the complement into which the earlier conversion folded another one."""
    side = next((side for side in step.targets if side.key in folds), None)
    if side is None:
        return step
    if _spec(earlier.plan["source_leaves"][side.key]) != side.spec:
        raise PlanError(
            "is kept in another dtype or shape, and can't be put back",
            key=side.key,
            remedy="convert with the options of the first conversion, or remove its receipt",
        )
    fold = folds[side.key]
    exactness = Exactness(**fold["exactness"])
    return replace(step, folded=Fold(**{**fold, "side": "target", "exactness": exactness}))


def _spec(entry: dict[str, Any]) -> TensorSpec:
    return TensorSpec(tuple(entry["shape"]), entry["dtype"])


def _only_names(step: Step, had: Set[str]) -> Step:
    """The step with those of a leaf's several target names that the earlier source had."""
    names = {side.key: [side.key, *(name for name, of in step.also if of == side.key)] for side in step.targets}
    targets: list[Side] = []
    also: list[tuple[str, str]] = []
    for side in step.targets:
        kept = [name for name in names[side.key] if name in had] or names[side.key][:1]
        targets.append(replace(side, key=kept[0]))
        also += [(name, kept[0]) for name in kept[1:]]
    return replace(step, targets=tuple(targets), also=tuple(also))


def _target_leaves(plan: Plan) -> dict[str, Leaf]:
    """Every target leaf; tied names follow the leaf they share bytes with.

    Raises:
        PlanError: two steps make one leaf.
    """
    leaves: dict[str, Leaf] = {}

    def add(leaf: Leaf) -> None:
        if leaf.key in leaves:
            raise PlanError("two rules make it", key=leaf.key, remedy="the mapping is ambiguous: report it")
        leaves[leaf.key] = leaf

    for step in plan.bound.steps:
        for side in step.targets:
            if step.value:
                value = plan.source_leaves[step.sources[0].key].value
                add(Leaf(side.key, None, value))
            else:
                add(Leaf(side.key, side.spec))
            for name, of in step.also:
                if of == side.key:
                    add(replace(leaves[of], key=name, same_as=None if step.copied else of))
    for derived in plan.owed:
        add(Leaf(derived.key, derived.spec))
    for leaf in plan.restored.values():
        add(leaf)
    return leaves


def _check_total(plan: Plan) -> None:
    fates = plan.fates()
    lost = [key for key in plan.source_leaves if key not in fates]
    if lost:
        more = (
            f" (and {len(lost) - 1} more: {', '.join(lost[1:4])}{', ...' if len(lost) > 4 else ''})" if lost[1:] else ""
        )
        raise PlanError(
            f"no rule of {plan.mapping.name} claims it{more}",
            key=lost[0],
            remedy=f"drop what isn't needed by name: --drop '{lost[0]}', or name the right layout",
        )
    values = [leaf for leaf in plan.target_leaves.values() if leaf.spec is None]
    if values and plan.target_format == "safetensors":
        raise PlanError(
            f"is a value, and {plan.target_format} holds tensors only",
            key=values[0].key,
            remedy="choose another --format, or --drop it",
        )


def _leaf_json(leaf: Leaf) -> dict[str, Any]:
    if leaf.spec is None:
        return {"shape": None, "dtype": None}
    return {"shape": list(leaf.spec.shape), "dtype": leaf.spec.dtype}
