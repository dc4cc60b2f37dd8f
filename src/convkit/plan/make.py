"""The plan: the fate of every source leaf and the origin of every target leaf, before a tensor is read.

A plan is total or it is refused: every source leaf has one fate (moved, copied, tied, derived, left
behind by a declared rule, dropped by name), every target leaf one origin (moved, copied, tied,
derived, restored from the complement of an earlier conversion).
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from convkit.checkpoint import Leaf
from convkit.checkpoint.tensors import ITEMSIZE, NARROW
from convkit.config import Converted
from convkit.config.tree import missing_from
from convkit.errors import ConfigError, PlanError, UsageError
from convkit.formats import get_format
from convkit.mapping import Mapping
from convkit.mappings import find_mapping
from convkit.mappings.cerebras.classes import CURRENT_RELEASE, RELEASES
from convkit.plan.bind import bind
from convkit.plan.derived import made_derived, owed_derived
from convkit.plan.detect import detect_layout
from convkit.plan.document import Options, Plan
from convkit.plan.names import choose_variants, detect_facts, detect_variants, measured
from convkit.plan.restore import Restored, earlier, only_names, remembered, restore
from convkit.plan.source import Source
from convkit.plan.step import DerivedLeaf


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
    restored = earlier(source, mapping) if options.restore and not options.headless else None
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
    sizes = remembered(mapping, restored, options.given) | options.given
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
        restore(plan, restored)
    if options.existing:
        _describe(plan, options.existing)
    plan.owed += _made(plan)
    plan.target_leaves = _target_leaves(plan)
    _check_total(plan)
    return plan


def _describe(plan: Plan, existing: dict[str, Leaf]) -> None:
    """Of a leaf's several names, and of buffers that aren't owed, keep those that a target of others has."""
    if not get_format(plan.target_format).ties:  # such a format's writers drop copies
        plan.bound.steps = [only_names(step, existing.keys()) for step in plan.bound.steps]
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
