"""A mapping meets a checkpoint: each rule finds its leaves, sizes are solved, shapes computed.

No tensor is read. The result is a list of steps, and the fate of every source leaf that a rule
claims; :mod:`convkit.plan` adds up both sides.
"""

from __future__ import annotations

from collections import abc
from collections.abc import Iterable, Iterator
from dataclasses import replace

from convkit.checkpoint import Leaf
from convkit.config.condition import Condition
from convkit.errors import PlanError
from convkit.mapping import (
    Derived,
    Folded,
    Layout,
    LeftBehind,
    Mapping,
    Refused,
    Rule,
    Verbatim,
)
from convkit.mapping.keys import KeyTemplate
from convkit.mapping.ops import Exactness
from convkit.mapping.pattern import Axes
from convkit.plan.derived import found_derived
from convkit.plan.names import Names
from convkit.plan.rule_binder import RuleBinder
from convkit.plan.step import Bound, Fold, Side, Step

# --- rules -----------------------------------------------------------------------------------------------


def bind(mapping: Mapping, leaves: abc.Mapping[str, Leaf], names: Names, dtype: str | None = None) -> Bound:
    """Let every rule of a mapping, read from left to right, find its leaves.

    ``dtype`` casts floating-point tensors.

    Raises:
        PlanError: a leaf is missing, claimed twice, or has a shape that the config contradicts.
    """
    bound = Bound()
    claimed: dict[str, str] = {}
    for rule in mapping.rules:
        if isinstance(rule, Rule) and Condition.parse(rule.when).holds(names):
            steps = RuleBinder(mapping, rule, leaves, names, dtype).steps()
            bound.steps.extend(steps)
            _claim(claimed, [key for step in steps for key in _source_keys(step)], str(rule))
            bound.left_behind |= {key: f"a copy beside {step.sources[0].key}" for step in steps for key in step.spare}
        elif isinstance(rule, Derived) and rule.side == "left" and Condition.parse(rule.when).holds(names):
            for leaf, derived in found_derived(rule, leaves, names):
                for key in derived.of:
                    if key not in leaves:
                        raise PlanError(f"{leaf.key} follows from it", key=key, remedy="the checkpoint is incomplete")
                bound.derived.append(derived)
                _claim(claimed, [leaf.key], str(rule))
    for rule in mapping.rules:
        if isinstance(rule, Folded) and rule.side == "left" and Condition.parse(rule.when).holds(names):
            bound.left_behind |= _fold(rule, bound.steps, leaves, names)
    for rule in mapping.rules:
        if isinstance(rule, LeftBehind) and rule.side == "left" and Condition.parse(rule.when).holds(names):
            keys = [key for key in _left_behind(rule, leaves, names) if key not in claimed]
            bound.left_behind |= dict.fromkeys(keys, rule.reason)
    for rule in mapping.rules:
        if isinstance(rule, Refused | Verbatim) and Condition.parse(rule.when).holds(names):
            template = KeyTemplate.parse(rule.key)
            taken = claimed.keys() | bound.left_behind.keys()
            kept = [key for key in leaves if key not in taken and template.match(key, names) is not None]
            if isinstance(rule, Refused):
                if kept and rule.side == "left":
                    raise PlanError(rule.reason, key=kept[0], remedy=rule.remedy)
                continue
            bound.steps.extend(_verbatim(rule, leaves[key], dtype) for key in kept)
            _claim(claimed, kept, str(rule))
    place = {key: number for number, key in enumerate(leaves)}
    bound.steps.sort(key=lambda step: place[step.sources[0].key])
    return bound


def _fold(rule: Folded, steps: list[Step], leaves: abc.Mapping[str, Leaf], names: Names) -> dict[str, str]:
    """Have the steps of the leaves that a rule folds read them so; returns the leaves that it folds into them."""
    template, gone = KeyTemplate.parse(rule.key), {}
    for number, step in enumerate(steps):
        for side in step.sources:
            if (at := template.match(side.key, names)) is None:
                continue
            by = KeyTemplate.parse(rule.by).format(at, names)
            if by not in leaves:
                raise PlanError(f"is missing; it is folded into {side.key}", key=by, remedy="complete the checkpoint")
            arguments = {name: names[v] if isinstance(v, str) else v for name, v in rule.arguments.items()}
            # in float64 factors are no more exact than what they multiply: a few ulp of exp and log
            exactness = Exactness(4.0 if side.spec.dtype == "float64" else 0.5, side.spec.dtype)
            steps[number] = replace(step, folded=Fold("source", side.key, by, rule.recipe, arguments, exactness))
            gone[by] = f"folded into {side.key}"
    return gone


def _left_behind(rule: LeftBehind, leaves: Iterable[str], names: Names) -> Iterator[str]:
    template = KeyTemplate.parse(rule.key)
    unless = KeyTemplate.parse(rule.unless).format({}, names) if rule.unless else None
    for key in leaves:
        if template.match(key, names) is not None and (unless is None or not key.startswith(unless)):
            yield key


def _verbatim(rule: Verbatim, leaf: Leaf, dtype: str | None) -> Step:
    if leaf.spec is None:
        side = Side(leaf.key, Axes(()))
        return Step(str(rule), (side,), (side,), {}, value=True)
    kept = Rule(leaf.key, leaf.key)
    binder = RuleBinder(Mapping(_NOWHERE, _NOWHERE, (kept,)), kept, {leaf.key: leaf}, {}, dtype)
    return replace(binder.steps()[0], rule=str(rule))


_NOWHERE = Layout("", "", "", "")


def _source_keys(step: Step) -> list[str]:
    return [side.key for side in step.sources] + [name for name, _ in step.same] + list(step.spare)


def _claim(claimed: dict[str, str], keys: Iterable[str], rule: str) -> None:
    for key in keys:
        if key in claimed:
            raise PlanError(
                f"two rules claim it: {claimed[key]}; {rule}", key=key, remedy="the mapping is ambiguous: report it"
            )
        claimed[key] = rule
