"""Bind a mapping to a checkpoint: its rules claim the leaves, one kind of rule after another.

No tensor is read. The result is a list of steps, and the fate of every source leaf that a rule
claims; :mod:`convkit.plan` adds up both sides.
"""

from __future__ import annotations

import math
from collections import abc
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from msgspec import Struct, field
from msgspec.structs import replace

from convkit.checkpoint import Leaf
from convkit.config.condition import Condition
from convkit.errors import PlanError
from convkit.mapping import AnyRule, Derived, Folded, LeftBehind, Mapping, Refused, Rule, Verbatim
from convkit.mapping.keys import KeyTemplate
from convkit.mapping.ops import Exactness
from convkit.mapping.pattern import Axes
from convkit.plan.derived import found_derived
from convkit.plan.names import Names
from convkit.plan.rule_binder import RuleBinder
from convkit.plan.step import Bound, Fold, Side, Step

_R = TypeVar("_R", bound=AnyRule)


def bind(mapping: Mapping, leaves: abc.Mapping[str, Leaf], names: Names, dtype: str | None = None) -> Bound:
    """Let every rule of a mapping, read from left to right, claim its leaves.

    ``dtype`` casts floating-point tensors.

    Raises:
        PlanError: a leaf is missing, claimed twice, or has a shape that the config contradicts.
    """
    claims = _Claims(mapping, leaves, names, dtype)
    for rule in claims.rules(Rule):
        claims.carry(rule)
    for derived in claims.rules(Derived):
        claims.derive(derived)
    for folded in claims.rules(Folded):
        claims.fold(folded)
    for behind in claims.rules(LeftBehind):
        claims.leave_behind(behind)
    for rest in claims.rules(AnyRule):
        if isinstance(rest, Refused):
            claims.refuse(rest)
        elif isinstance(rest, Verbatim):
            claims.keep(rest)
    place = {key: number for number, key in enumerate(leaves)}
    claims.bound.steps.sort(key=lambda step: place[step.sources[0].key])
    return claims.bound


class _Claims(Struct):
    """Leaves of a checkpoint, and which rule has claimed them so far."""

    mapping: Mapping
    leaves: abc.Mapping[str, Leaf]
    names: Names
    dtype: str | None
    bound: Bound = field(default_factory=Bound)
    claimed: dict[str, str] = field(default_factory=dict)

    def rules(self, kind: type[_R]) -> Iterator[_R]:
        """The rules of a kind that apply and concern the left side."""
        for rule in self.mapping.rules:
            if isinstance(rule, kind) and getattr(rule, "side", "left") == "left":  # noqa: SIM102
                if Condition.parse(rule.when).holds(self.names):
                    yield rule

    def carry(self, rule: Rule) -> None:
        """Claim leaves that become leaves of the other side; their copies stay behind."""
        steps = RuleBinder(rule, self.mapping.axes, self.leaves, self.names, self.dtype).steps()
        self.bound.steps.extend(steps)
        for step in steps:
            self._claim([side.key for side in step.sources], rule)
            self._claim([name for name, _ in step.same], rule)
            self._claim(step.unused, rule)
            self.bound.left_behind |= dict.fromkeys(step.unused, f"a copy beside {step.sources[0].key}")

    def derive(self, rule: Derived) -> None:
        """Claim leaves that can be computed from the config, or from other leaves, which must be there."""
        for leaf, derived in found_derived(rule, self.leaves, self.names):
            for key in derived.of:
                if key not in self.leaves:
                    problem = f"is missing; {leaf.key} is computed from it"
                    raise PlanError(problem, key=key, remedy="complete the checkpoint")
            self.bound.derived.append(derived)
            self._claim([leaf.key], rule)

    def fold(self, rule: Folded) -> None:
        """Make the steps read folded leaves multiplied; leaves that hold the factors stay behind."""
        template = KeyTemplate.parse(rule.key)
        arguments = {name: self.names[v] if isinstance(v, str) else v for name, v in rule.arguments.items()}
        if not rule.by and self._factor(rule, arguments["factor"]) == 1:
            return
        steps = self.bound.steps
        for number, side in [(number, side) for number, step in enumerate(steps) for side in step.sources]:
            if (at := template.match(side.key, self.names)) is not None:
                by = KeyTemplate.parse(rule.by).format(at, self.names)
                steps[number] = self._folded(steps[number], side, rule, by, arguments)

    def _folded(self, step: Step, side: Side, rule: Folded, by: str, arguments: dict[str, Any]) -> Step:
        """Change the step so that it multiplies the leaf; ``by`` stays behind."""
        if step.folded:
            remedy = "the mapping is ambiguous: report it"
            raise PlanError(f"{rule}, and {step.folded.key} is multiplied already", key=side.key, remedy=remedy)
        if by and by not in self.leaves:
            raise PlanError(f"is missing; it is folded into {side.key}", key=by, remedy="complete the checkpoint")
        if not side.spec.dtype.startswith(("float", "bfloat")):
            remedy = "the config contradicts the tensors"
            raise PlanError(f"is {side.spec.dtype}, so it can't be multiplied", key=side.key, remedy=remedy)
        # in float64, a leaf's factors aren't more exact than the product: exp and log are off by a few ulp
        exactness = Exactness(4.0 if by and side.spec.dtype == "float64" else 0.5, side.spec.dtype)
        if by:
            self.bound.left_behind[by] = f"folded into {side.key}"
        return replace(step, folded=Fold("source", side.key, by, rule.recipe, arguments, exactness))

    @staticmethod
    def _factor(rule: Folded, factor: Any) -> float:
        if isinstance(factor, bool) or not isinstance(factor, int | float) or not math.isfinite(factor):
            raise PlanError(f"{rule}: {factor!r} isn't a number", remedy="correct the config")
        return factor

    def leave_behind(self, rule: LeftBehind) -> None:
        """Claim leaves without a place on the other side."""
        unless = KeyTemplate.parse(rule.unless).format({}, self.names) if rule.unless else None
        for key in self._matched(rule.key):
            if key not in self.claimed and (unless is None or not key.startswith(unless)):
                self.bound.left_behind[key] = rule.reason

    def refuse(self, rule: Refused) -> None:
        """Refuse leaves that no other rule has claimed and that can't be carried."""
        for key in self._unclaimed(rule.key):
            raise PlanError(rule.reason, key=key, remedy=rule.remedy)

    def keep(self, rule: Verbatim) -> None:
        """Claim leaves that no other rule has claimed and that stay as they are."""
        for key in self._unclaimed(rule.key):
            self.bound.steps.append(self._kept(rule, self.leaves[key]))
            self._claim([key], rule)

    def _kept(self, rule: Verbatim, leaf: Leaf) -> Step:
        if leaf.spec is None:
            side = Side(leaf.key, Axes(()))
            return Step(str(rule), (side,), (side,), {}, value=True)
        (step,) = RuleBinder(Rule(leaf.key, leaf.key), {}, {leaf.key: leaf}, {}, self.dtype).steps()
        return replace(step, rule=str(rule))

    def _matched(self, template: str) -> list[str]:
        return [key for key, _ in KeyTemplate.parse(template).matching(self.leaves, self.names)]

    def _unclaimed(self, template: str) -> list[str]:
        taken = self.claimed.keys() | self.bound.left_behind.keys()
        return [key for key in self._matched(template) if key not in taken]

    def _claim(self, keys: Iterable[str], rule: AnyRule) -> None:
        for key in keys:
            if key in self.claimed:
                raise PlanError(
                    f"two rules claim it: {self.claimed[key]}; {rule}",
                    key=key,
                    remedy="the mapping is ambiguous: report it",
                )
            self.claimed[key] = str(rule)
