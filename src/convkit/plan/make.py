"""Make the plan, with the fate of every source leaf and the origin of every target leaf, before reading a tensor.

A plan is total or it is refused: every source leaf has one fate (moved, copied, tied, derived, left
behind by a declared rule, dropped by name), every target leaf one origin (moved, copied, tied,
derived, restored from the complement of an earlier conversion).
"""

from __future__ import annotations

import fnmatch
from collections import abc
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from msgspec import Struct, field
from msgspec.structs import replace

from convkit.checkpoint import Checkpoint, Leaf
from convkit.checkpoint.tensors import ITEMSIZE, NARROW
from convkit.errors import ConfigError, ContradictionError, PlanError, UsageError, meant
from convkit.formats import get_format
from convkit.mapping import Chain, Mapping, split_name
from convkit.plan.bind import bind
from convkit.plan.chain import chain_plan
from convkit.plan.completeness import Evidence, given_up
from convkit.plan.contradiction import explained
from convkit.plan.derived import made_derived, recorded_derived
from convkit.plan.detect import detect_layout
from convkit.plan.deviations import declared
from convkit.plan.document import Options, Plan
from convkit.plan.drawn import completed, or_drawn
from convkit.plan.earlier import Earlier, EarlierPlan, earlier_of, layouts_before
from convkit.plan.encoded import check_adapter_beside, check_encoded
from convkit.plan.factors import with_factors
from convkit.plan.lost_config import lost_config
from convkit.plan.names import Known, detect_variants, know
from convkit.plan.releases import Journey, Leg, or_older, release_of
from convkit.plan.restated import State, as_before, restated
from convkit.plan.restore import Returned, only_names, put_back, remembered
from convkit.plan.route import find_route
from convkit.plan.source import Source
from convkit.plan.step import Bound, DerivedLeaf
from convkit.plan.unclaimed import check_claimed
from convkit.plan.unread import check_read
from convkit.plan.wrapped import none_of, taken_off, unwrapped


def make_plan(
    source: Source,
    to: str | Mapping | Chain,
    from_: str | None = None,
    options: Options | None = None,
    *,
    through: Iterable[str] = (),
) -> Plan:
    """Plan the conversion of ``source`` to ``to``, ``through`` other layouts if any are named.

    ``to`` is a layout, or a framework (``cerebras``) into which one mapping leads from the source's layout. It may also
    be a mapping of the caller's own, or a chain of mappings, whose left layout is the source's.

    Raises:
        PlanError: the plan isn't total, or the config contradicts the tensors.
        ConfigError: the config can't be expressed in the target layout.
        UsageError: an unknown layout, format, dtype or release; a framework into which not exactly one mapping leads.
    """
    options = options or Options()
    check_adapter_beside(source)
    if isinstance(to, str):
        route = _route(source, from_, to, tuple(through), options)
    else:
        route = [Leg(one, release_of(one, options.release)) for one in (to.links if isinstance(to, Chain) else (to,))]
    links, releases = [leg.mapping for leg in route], [leg.release for leg in route]
    _check_asked(links[-1], options)
    restoring = options.restore and not options.headless
    earlier, before = earlier_of(source, links) if restoring else ([None] * len(links), ())
    try:
        wrapping, drop = unwrapped(source.checkpoint.leaves, links[0], options.drop)
        wrapping = completed(wrapping, source, links[0].left, options.seed)
        source, options = replace(source, checkpoint=wrapping.off(source.checkpoint)), replace(options, drop=drop)
        check_encoded(source, links[0], dtype=options.dtype, dropped=_dropped(drop, source.checkpoint.leaves))
        plans = _plans(source, links, releases, options, earlier)
        plan = plans[0] if len(plans) == 1 else chain_plan(Chain(tuple(links)), plans)
        plan = replace(taken_off(plan, wrapping), before=before)
        _check_holds(plan)
    except (PlanError, ConfigError) as error:
        if error.path is not None:
            raise
        if isinstance(error, PlanError):
            error = or_drawn(none_of(error, source.checkpoint.leaves, links[0]), source, links[0].left)
        path = (isinstance(error, ConfigError | ContradictionError) and source.config_path) or source.path
        remedy = or_older(error.remedy, source, links[0].left, options.from_release)
        raise type(error)(error.problem, path=path, key=error.key, remedy=remedy) from None
    return plan


def _route(source: Source, from_: str | None, to: str, through: Sequence[str], options: Options) -> list[Leg]:
    """Find the way from the source's layout; the first stop helps to recognise the layout.

    A release that a layout's name gives, as in ``cerebras/gpt2@1.8``, is that of the source or of the target.
    """
    (to, asked), (here, said) = split_name(to), split_name(from_ or "")
    here = detect_layout(source, here or None, [*through, to][0])[0].name
    found = find_route(here, to, through, partial(layouts_before, source) if options.restore else tuple)
    links = found.links if isinstance(found, Chain) else (found,)
    journey = Journey(source, options.release or asked, options.from_release or said, options.restore)
    return with_factors(source, journey.legs(links), options.mup, restore=options.restore)


def castable() -> list[str]:
    """The dtypes to which tensors may be cast."""
    return [name for name in ITEMSIZE if name.startswith(("float", "bfloat")) and name not in NARROW]


def _check_asked(mapping: Mapping, options: Options) -> None:
    """Refuse a format or a dtype that doesn't exist, before anything is decided."""
    get_format(options.format or mapping.right.format)
    if options.dtype and options.dtype not in castable():
        remedy = f"{meant(options.dtype, castable())}known: {', '.join(castable())}"
        raise UsageError(f"{options.dtype!r} isn't a floating-point dtype", remedy=remedy)


def _plans(
    source: Source,
    links: Sequence[Mapping],
    releases: Sequence[tuple[int, ...]],
    options: Options,
    earlier: Sequence[Earlier | None],
) -> list[Plan]:
    """Make the plan of each mapping, which starts from the output of the one before.

    ``drop`` names leaves of the source; the other options for one side apply to the last target.
    """
    plans: list[Plan] = []
    start = Start(
        source.checkpoint.leaves,
        source.config or {},
        source.checkpoint.format,
        asked=options,
        checkpoint=source.checkpoint,
        near=(Path(), source.path.parent),
        described=source.checkpoint.described,
    )
    on_the_way = replace(options, format=None, dtype=None, headless=False, existing={})
    for link, release, before in zip(links, releases, earlier, strict=True):
        if before:
            names, variant = before.plan.names, before.plan.variant
            start = replace(start, names=start.names | names, variant=start.variant | variant, undone=before.plan)
        asked = on_the_way if len(plans) < len(links) - 1 else options
        plans.append(_plan(start, link, release=release, options=asked, earlier=before))
        start = _after(plans[-1], links[len(plans) : len(plans) + 1])
        on_the_way, options = replace(on_the_way, drop=()), replace(options, drop=())
    return plans


def _after(plan: Plan, following: Sequence[Mapping]) -> Start:
    """Describe where the next mapping starts: leaves, config, and what is known about them."""
    choices = {
        variant.name: plan.variant[variant.name]
        for link in following
        for variant in link.variants
        if plan.variant.get(variant.name) in variant.choices
    }
    return Start(plan.target_leaves, plan.target_config, plan.target_format, choices, plan.names)


class Start(Struct, frozen=True):
    """Where a mapping starts, with the choices and names that are known already.

    The first mapping starts from the user's checkpoint, whose completeness is checked by what the user ``asked`` and by
    its own description.
    """

    leaves: dict[str, Leaf]
    config: dict[str, Any]
    format: str
    variant: dict[str, str] = field(default_factory=dict)
    names: dict[str, Any] = field(default_factory=dict)
    asked: Options | None = None
    checkpoint: Checkpoint | None = None
    near: tuple[Path, ...] = ()
    described: frozenset[str] = frozenset()
    undone: EarlierPlan | None = None


def _plan(
    start: Start, mapping: Mapping, *, release: tuple[int, ...], options: Options, earlier: Earlier | None
) -> Plan:
    dropped = _dropped(options.drop, start.leaves)
    check_read(start.leaves, dropped)
    known = _known(start, mapping, release, options)
    try:
        return _totalled(start, mapping, known, dropped, release=release, options=options, earlier=earlier)
    except PlanError as error:
        raise explained(error, mapping, start.leaves.keys() - dropped, known) from None


def _totalled(
    start: Start,
    mapping: Mapping,
    known: Known,
    dropped: tuple[str, ...],
    *,
    release: tuple[int, ...],
    options: Options,
    earlier: Earlier | None,
) -> Plan:
    """The plan from what is known, with every leaf accounted for.

    Raises:
        PlanError: it isn't total.
    """
    target_format = options.format or mapping.right.format
    bound = _bound(mapping, start.leaves, dropped, known, options.dtype)
    state = State(start.leaves, start.checkpoint, bound, [*known.converted.warnings], start.config, start.near)
    if earlier:
        bound = as_before(state, earlier)
    elif get_format(target_format).holds_values:
        bound = restated(mapping, state)
    missing = _given_up(start, mapping, dropped, release, options)
    parts = Returned(bound.steps, [], {}, known.converted.config)
    if earlier:
        parts = put_back(mapping, bound.steps, known, earlier, release)
    if options.existing:
        parts = _as_others_did(mapping, parts, known, target_format, options.existing)
    to_compute = [*parts.to_compute, *bound.filled.values(), *_made(mapping, parts, known)]
    plan = Plan(
        mapping=mapping,
        source_format=start.format,
        target_format=target_format,
        variant=known.variant,
        source_config=start.config,
        target_config=parts.config,
        names=known.names,
        defaults=known.converted.defaults,
        lost_config=lost_config(mapping.config, start.config, known.converted, release),
        release=release,
        bound=replace(bound, steps=parts.steps),
        dropped=dropped,
        missing=missing,
        to_compute=to_compute,
        restored=parts.leaves,
        source_leaves=start.leaves,
        target_leaves=_target_leaves(parts, to_compute, start.leaves)
        | {key: Leaf(key, None, one.value) for key, one in bound.stated.items()},
        warnings=state.warnings,
        dtype=options.dtype,
        allow_overflow=options.allow_overflow,
        deviations=(*declared(known.converted), *parts.deviations),
        unknown=known.converted.unknown,
        restored_from=earlier.place if earlier else 0,
    )
    fates = plan.fates()
    if start.asked and start.asked.drop_unclaimed:
        return replace(plan, unclaimed=tuple(key for key in plan.source_leaves if key not in fates))
    check_claimed(mapping.name, plan.source_leaves, fates)
    return plan


def _given_up(
    start: Start, mapping: Mapping, dropped: tuple[str, ...], release: tuple[int, ...], options: Options
) -> dict[str, str]:
    """The leaves that the user's checkpoint lacks, as the user accepts, and why they ought to be there.

    Raises:
        IncompleteError: it lacks others.
    """
    asked = start.asked
    if asked is None:
        return {}

    def suppose(facts: abc.Mapping[str, bool], headless: bool) -> Known:
        return _known(start, mapping, release, replace(options, headless=headless), facts)

    kept = {key: leaf for key, leaf in start.leaves.items() if key not in dropped}
    allowed = ("*",) if asked.existing else asked.allow_missing  # another program has accepted it
    evidence = Evidence(mapping, kept, start.described, suppose)
    return given_up(evidence, headless=asked.headless, dropped=dropped, allowed=allowed)


def _known(
    start: Start,
    mapping: Mapping,
    release: tuple[int, ...],
    options: Options,
    supposed: abc.Mapping[str, bool] | None = None,
) -> Known:
    """Gather what is known from the source, from an existing target, and from the user."""
    theirs = [variant.inverse() for variant in mapping.variants if variant.side == "right"]
    spelled = detect_variants(theirs, options.existing, {}) if options.existing else {}
    return know(
        mapping,
        start.leaves,
        start.config,
        release=release,
        choices=start.variant | spelled | options.choices,
        sizes=remembered(mapping, start.names, options.given) | options.given,
        headless=options.headless or bool(start.names.get("headless")),
        supposed=supposed,
        before=start.undone.config_before if start.undone else None,
    )


def _bound(
    mapping: Mapping, leaves: dict[str, Leaf], dropped: tuple[str, ...], known: Known, dtype: str | None
) -> Bound:
    kept = {key: leaf for key, leaf in leaves.items() if key not in dropped}
    try:
        return bind(mapping, kept, known.names, dtype)
    except PlanError as error:
        if error.key not in dropped:
            raise
        raise PlanError("is needed for the target", key=error.key, remedy="don't drop it") from None


def _as_others_did(
    mapping: Mapping, parts: Returned, known: Known, target_format: str, existing: dict[str, Leaf]
) -> Returned:
    """Keep only those names of a leaf, and those unrecorded buffers, that a target made by others has."""
    steps = parts.steps
    if not get_format(target_format).ties:  # such a format's writers drop copies
        steps = [only_names(step, existing.keys()) for step in steps]
    made = {side.key for step in steps for side in step.targets}
    recorded = recorded_derived(mapping, existing.keys() - made, known.names)
    specs = {key: leaf.spec for key, leaf in existing.items() if leaf.spec is not None}
    found = [replace(leaf, spec=specs[leaf.key]) for leaf in recorded if leaf.key in specs]
    return replace(parts, steps=steps, to_compute=[*parts.to_compute, *found])


def _made(mapping: Mapping, parts: Returned, known: Known) -> list[DerivedLeaf]:
    """List leaves to compute from others of the target, except those that come back from an earlier conversion."""
    leaves = {side.key: side.spec for step in parts.steps if not step.value for side in step.targets}
    there = parts.leaves.keys() | {leaf.key for leaf in parts.to_compute}
    return [leaf for leaf in made_derived(mapping, leaves, known.names) if leaf.key not in there]


def _dropped(patterns: Iterable[str], leaves: Iterable[str]) -> tuple[str, ...]:
    keys = list(leaves)
    found: dict[str, None] = {}
    for pattern in patterns:
        matched = [key for key in keys if key == pattern] or fnmatch.filter(keys, pattern)
        if not matched:
            raise UsageError(f"--drop {pattern}: no leaf has that name", remedy="see convkit inspect")
        found.update(dict.fromkeys(matched))
    return tuple(found)


def _target_leaves(parts: Returned, to_compute: list[DerivedLeaf], source: dict[str, Leaf]) -> dict[str, Leaf]:
    """List every target leaf; tied names follow the leaf whose bytes they share.

    Raises:
        PlanError: two steps make one leaf.
    """
    leaves: dict[str, Leaf] = {}

    def add(leaf: Leaf) -> None:
        if leaf.key in leaves:
            raise PlanError("two rules make it", key=leaf.key, remedy="the mapping is ambiguous: report it")
        leaves[leaf.key] = leaf

    for step in parts.steps:
        for side in step.targets:
            add(Leaf(side.key, None, source[step.sources[0].key].value) if step.value else Leaf(side.key, side.spec))
            for name, of in step.also:
                if of == side.key:
                    add(replace(leaves[of], key=name, same_as=None if name in step.copies else of))
    for derived in to_compute:
        add(Leaf(derived.key, derived.spec))
    for leaf in parts.leaves.values():
        add(leaf)
    return leaves


def _check_holds(plan: Plan) -> None:
    values = [leaf for leaf in plan.target_leaves.values() if leaf.spec is None]
    if values and not get_format(plan.target_format).holds_values:
        raise PlanError(
            f"is a value, but {plan.target_format} holds only tensors",
            key=values[0].key,
            remedy="choose another --format, or --drop it",
        )
