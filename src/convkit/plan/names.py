"""Gather the declared names before rules are bound: variants, facts, sizes, and the converted config.

:func:`know` does all of it. :func:`detect_variants` and :func:`detect_facts` find what the keys alone show.
"""

from __future__ import annotations

from collections import abc
from collections.abc import Iterable
from copy import deepcopy
from typing import Any

from msgspec import Struct

from convkit.checkpoint import Leaf, TensorSpec
from convkit.config import Converted, Release
from convkit.errors import ConfigError, PlanError
from convkit.mapping import Fact, Mapping, Measure, Variant
from convkit.mapping.keys import KeyTemplate

Names = dict[str, Any]


class Known(Struct, frozen=True):
    """What is known before a rule is bound.

    ``variant`` holds the choices of both sides, ``converted`` the target's config, ``names`` every declared name.
    """

    variant: dict[str, str]
    converted: Converted
    names: Names


def know(
    mapping: Mapping,
    leaves: abc.Mapping[str, Leaf],
    config: dict[str, Any],
    *,
    release: Release = (),
    choices: abc.Mapping[str, str],
    sizes: abc.Mapping[str, Any],
    headless: bool = False,
    supposed: abc.Mapping[str, bool] | None = None,
    before: tuple[dict[str, Any], dict[str, Any]] | None = None,
) -> Known:
    """Gather all that a mapping's left side shows before its rules are bound.

    ``choices`` decide variants that the keys can't show; ``sizes`` are lengths that are known already. ``supposed`` are
    facts that are taken to be so, whatever the keys show. ``before`` are the config that an earlier conversion wrote,
    which this one undoes, and the one that it read.

    Raises:
        PlanError: a choice doesn't exist, or a size contradicts the checkpoint.
        ConfigError: the config can't be expressed in the target layout.
    """
    seen = detect_variants(mapping.variants, leaves, choices)
    facts = {**detect_facts(mapping.facts, leaves, seen), **(supposed or {})}
    found = facts | measured(mapping.measures, leaves, seen, sizes)
    names = {**found, **seen, "headless": headless}
    try:
        converted = mapping.config.convert(config, names, release)
    except ConfigError:
        # nobody has edited what came of a config that was there
        if before is None or config != before[0]:
            raise
        converted = Converted(deepcopy(before[1]), names, (), {}, ())
    chosen = choose_variants(mapping.variants, choices, converted.names)
    return Known(seen | chosen, converted, converted.names | chosen)


def detect_variants(variants: Iterable[Variant], keys: Iterable[str], given: abc.Mapping[str, str]) -> dict[str, str]:
    """Find the source's choices: as the keys show, else as given, else the first.

    Raises:
        PlanError: a given choice doesn't exist.
    """
    keys = list(keys)
    names: dict[str, str] = {}
    for variant in variants:
        if variant.side == "left":
            seen = _seen_choice(variant, keys, names)
            names[variant.name] = _a_choice(
                variant, given.get(variant.name, variant.choices[0]) if seen is None else seen
            )
    return names


def seen_variants(variants: Iterable[Variant], keys: Iterable[str]) -> dict[str, str]:
    """Only those of the source's choices that the keys show."""
    keys = list(keys)
    names: dict[str, str] = {}
    shown: dict[str, str] = {}
    for variant in variants:
        if variant.side == "left":
            seen = _seen_choice(variant, keys, names)
            shown |= {} if seen is None else {variant.name: seen}
            names[variant.name] = variant.choices[0] if seen is None else seen  # others' keys may name it
    return shown


def choose_variants(variants: Iterable[Variant], given: abc.Mapping[str, str], declared: Names) -> dict[str, str]:
    """Choose the target's variants: as given, else as usual for these declared names, else the first.

    Raises:
        PlanError: a given choice doesn't exist.
    """
    names: dict[str, str] = {}
    for variant in variants:
        if variant.side == "right":
            usual = variant.usual(declared) if variant.usual else variant.choices[0]
            if declared[variant.headless_if] and variant.headless is not None:
                usual = variant.headless
            names[variant.name] = _a_choice(variant, given.get(variant.name, usual))
    return names


def _a_choice(variant: Variant, choice: str) -> str:
    if choice not in variant.choices:
        raise PlanError(f"variant {variant.name} has no choice {choice!r}", remedy=f"choices: {variant.choices}")
    return choice


def _seen_choice(variant: Variant, keys: list[str], names: abc.Mapping[str, Any]) -> str | None:
    probe = KeyTemplate.parse(variant.probe)
    if not probe.text:
        return None
    for choice in variant.choices:
        known = {**names, variant.name: choice}
        if any(probe.matching(keys, known)):
            return choice
    return None


def detect_facts(facts: Iterable[Fact], keys: Iterable[str], names: abc.Mapping[str, Any]) -> dict[str, bool]:
    """Find whether a leaf of each fact's form is there."""
    keys = list(keys)
    found = {}
    for fact in facts:
        probe = KeyTemplate.parse(fact.left)
        found[fact.name] = any(probe.matching(keys, names))
    return found


def measured(
    measures: Iterable[Measure],
    leaves: abc.Mapping[str, Leaf],
    names: abc.Mapping[str, Any],
    given: abc.Mapping[str, int],
) -> Names:
    """Measure declared names in the shapes of the left side; what the user gave must agree.

    Raises:
        PlanError: a given size contradicts the checkpoint, or two leaves contradict each other.
    """
    found: Names = dict(given)
    by: dict[str, str] = {}
    for measure in measures:
        if measure.left is None:
            continue
        template, axis = KeyTemplate.parse(measure.left[0]), measure.left[1]
        if isinstance(axis, str):
            length: int | None = _run(template, axis, leaves, names)
            key, why = template.text, f"'{axis}' in the keys"
        else:
            alike = (leaf for key, _ in template.matching(leaves, names) if (leaf := leaves[key]).spec)
            leaf = next(alike, Leaf("", TensorSpec((), "bool")))
            shape = leaf.spec.shape if leaf.spec else ()
            length = shape[axis] if -len(shape) <= axis < len(shape) else None
            key, why = leaf.key, f"axis {axis} of {list(shape)}"
        if length is None:
            continue
        if found.setdefault(measure.name, length) != length:
            if (other := by.get(measure.name)) is None:
                also, remedy = f"not {found[measure.name]}", "correct the size, or leave it out"
            else:
                also = f"but {other} says {found[measure.name]}"
                remedy = "the checkpoint is damaged, or of another layout"
            raise PlanError(f"says {measure.name} = {length} ({why}), {also}", key=key, remedy=remedy)
        by.setdefault(measure.name, key)
    return found


def _run(template: KeyTemplate, name: str, keys: abc.Collection[str], names: abc.Mapping[str, Any]) -> int:
    """Count how far an integer placeholder runs in the keys, or over how many of its names."""
    seen = {bound[name] for _, bound in template.matching(keys, names)}
    return len(seen) if template.axes[name].choices else max((int(value) for value in seen), default=-1) + 1
