"""Undo a conversion through other layouts, mapping by mapping.

The checkpoint between two mappings isn't stored. It is made again from the target by the later mapping's plan, and
the earlier mapping's plan is then undone on it. So the source is compared with the result from the target, and
all that the plans say about intermediate leaves is compared as well.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache
from threading import local

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from convkit.checkpoint import Checkpoint, Leaf
from convkit.checkpoint.views import Renamed
from convkit.errors import ConvkitError
from convkit.files.complement import kept_at
from convkit.files.receipt import from_json_value
from convkit.verify.documents import Bound, Plan, Step
from convkit.verify.documents import replace as changed
from convkit.verify.roundtrip.arithmetic import bound
from convkit.verify.roundtrip.reconvert import (
    Claim,
    Kept,
    Sides,
    ValueClaim,
    claims,
    lost,
    value_claims,
)

Claimed = tuple[list[Claim], list[ValueClaim]]


class Stage(Struct, frozen=True):
    """One mapping of a conversion: its plan, its two sides, and what the plan claims about them.

    ``remade`` are leaves of the source side that the claims themselves made, so they need no comparison.
    """

    plan: Plan
    sides: Sides
    claimed: Claimed
    remade: Collection[str] = ()


def plans_of(plan: Plan) -> list[Plan]:
    """The plan of each mapping. Early plans of chains describe only the last mapping."""
    return list(plan.through) if plan.through and not plan.steps else [plan]


def stages(plan: Plan, sides: Sides, earlier: Plan | None) -> list[Stage]:
    """List the mappings of a conversion, from the source to the target.

    Args:
        plan: the plan of the whole conversion.
        sides: its two ends, and what lies beside them.
        earlier: the plan of the reverse conversion, whose complement lies beside the source.

    Raises:
        ConvkitError: a plan can't be undone.
    """
    plans, before = plans_of(plan), len(plans_of(earlier)) if earlier else 1
    found: list[Stage] = []
    target = sides.target
    for place in reversed(range(len(plans))):
        own = plans[place]
        turned = before - 1 - place if own.restored_from is None else own.restored_from
        kept = _part(sides.kept, place, len(plans))
        returned = _part(sides.earlier, turned, before) if turned >= 0 or own.restored_from else None
        if place == 0:
            between = replace(sides, target=target, kept=kept, earlier=returned)
            tensors, values = claimed(own, between)
            found.append(Stage(own, between, ([_carried_on(claim, plans[1:]) for claim in tensors], values)))
            break
        remade = Remade(own, target, kept, returned)
        making = {id(claim) for claim in remade.made.values()}
        tensors = [claim for claim in remade.claims if id(claim) not in making]
        values = [claim for claim in remade.values if claim.checkpoint is not remade]
        found.append(Stage(own, remade.sides, (tensors, values), frozenset(remade.leaves)))
        target = remade
    return found[::-1]


def claimed(plan: Plan, sides: Sides) -> Claimed:
    """Collect all that a plan claims.

    Raises:
        ConvkitError: a step can't be undone.
    """
    return list(claims(plan, sides)), list(value_claims(plan, sides))


class Remade(Checkpoint):
    """The source of a mapping, made again from its target and its complement; a thread holds two leaves of it."""

    def __init__(self, plan: Plan, target: Checkpoint, kept: Kept | None, earlier: Kept | None) -> None:
        self.path = target.path
        self.format = plan.source.format
        self.metadata = {}
        self.sides = Sides(self, target, kept, earlier)
        gone = lost(plan, self.sides)
        planned = {key: entry for key, entry in plan.source_leaves.items() if key not in gone}
        self.leaves = {key: Leaf(key, entry.spec) for key, entry in planned.items()}
        self.claims, self.values = claimed(plan, self.sides)
        for value in self.values:
            if value.checkpoint is self:
                self.leaves[value.key] = Leaf(value.key, None, from_json_value(value.value))
        #: the claim that makes a leaf: its kept elements, or else those from the target
        self.made: dict[str, Claim] = {}
        for claim in self.claims:
            if claim.checkpoint is self:
                self.made |= {key: claim for key in claim.keys if key not in self.made or claim.step is None}
        self._held = _Held(self.made)

    def read(self, key: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """See :meth:`Tensors.read`; the leaf is made whole."""
        if key not in self.made:
            raise ConvkitError("the plan doesn't say how to restore it", key=key, remedy="convert again")
        return self._held.whole(key)[start:stop]


class _Held(local):
    """The leaves that one thread has made."""

    def __init__(self, made: dict[str, Claim]) -> None:
        self.whole = lru_cache(maxsize=2)(lambda key: _whole(made[key]))


def _whole(claim: Claim) -> np.ndarray:
    made = [np.array(block) for block in claim.blocks()]
    return made[0] if len(made) == 1 else np.concatenate([np.empty(0, made[0].dtype if made else "u1"), *made])


def _part(kept: Kept | None, place: int, places: int) -> Kept | None:
    """The complement of the mapping at this place."""
    if kept is None or (places == 1 and not place):
        return kept
    tensors = kept.tensors and _Part(kept.tensors, kept_at(place, kept.tensors.leaves))
    return Kept(tensors, {key: kept.values[name] for key, name in kept_at(place, kept.values).items()})


class _Part(Renamed, Checkpoint):
    """Some leaves of a complement."""

    def __init__(self, complement: Checkpoint, names: dict[str, str]) -> None:
        super().__init__(complement, names)
        self.path = complement.path
        self.format = complement.format
        self.metadata = {}


def _carried_on(claim: Claim, later: Sequence[Plan]) -> Claim:
    """Extend the claim by what later mappings do to the values."""
    if claim.step is None or not later:
        return claim
    step = claim.step
    keys = {*(side.key for side in step.targets), *(name for name, _ in step.also)}
    for plan in later:
        following = [other for other in plan.steps if keys & {side.key for side in other.sources}]
        worst = max((other for other in following if other.op != "value"), key=bound, default=None)
        if worst is not None:
            step = _after(step, worst)
        keys = {side.key for other in following for side in other.targets}
    return replace(claim, step=step)


def _after(step: Step, other: Step) -> Step:
    """Combine two steps into one that does the same to values."""
    parts = [part.exactness for part in (step, other) if isinstance(part.exactness, Bound)]
    ulp = sum(part.ulp for part in parts)
    return changed(step, ops=step.ops + other.ops, exactness=Bound(ulp, parts[-1].dtype) if parts else "exact")


def in_words(plan: Plan, names: Iterable[str]) -> list[str]:
    """Yield the problems of one of several mappings, with its name."""
    return [f"{plan.mapping}: {name}" for name in names]
