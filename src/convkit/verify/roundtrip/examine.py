"""Compare both sides of a conversion with the claims of its plan."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from convkit.checkpoint.digests import BlockDigests, canonical_json, combine, digest_value
from convkit.checkpoint.progress import unmeasured
from convkit.checkpoint.threads import workers
from convkit.errors import ConvkitError
from convkit.files.part import Part, stretch
from convkit.verify.documents import Digested, Plan, replace
from convkit.verify.roundtrip.arithmetic import bound, differing, distance
from convkit.verify.roundtrip.reconvert import (
    Claim,
    Sides,
    ValueClaim,
    claims,
    lost,
    misplaced,
    overfilled,
    value_claims,
    value_of,
)

#: tensors compared at the same time; each thread holds a few blocks
THREADS = min(8, max(2, os.cpu_count() or 2))

_SOURCE_CHANGED = "the source was changed since the conversion"
_CHANGED = "its digest differs from the receipt: the leaf or the receipt was changed after the conversion"


@dataclass
class Findings:
    """The findings. Each source leaf is in ``exact``, ``bounded``, ``lost`` (with the reason) or ``failing``."""

    problems: list[str] = field(default_factory=list)
    #: leaves of both sides
    failing: set[str] = field(default_factory=set)
    exact: list[str] = field(default_factory=list)
    bounded: list[str] = field(default_factory=list)
    lost: dict[str, str] = field(default_factory=dict)
    #: bytes of the source's tensors that were compared
    bytes: int = 0
    #: source leaves whose digest was compared with the receipt's
    digests: int = 0
    max_ulp: float = 0.0
    bound: float = 0.0

    def add(self, other: Findings) -> None:
        """Add the findings of another part."""
        self.problems += other.problems
        self.failing |= other.failing
        self.exact += other.exact
        self.bounded += other.bounded
        self.lost |= other.lost
        self.bytes += other.bytes
        self.digests += other.digests
        self.max_ulp, self.bound = max(self.max_ulp, other.max_ulp), max(self.bound, other.bound)

    def fail(self, key: str, problem: str) -> None:
        """Record a problem of a leaf."""
        self.failing.add(key)
        self.problems.append(f"{key}: {problem}")


def examine(
    plan: Plan,
    sides: Sides,
    *,
    claimed: tuple[Iterable[Claim], Iterable[ValueClaim]] | None = None,
    digests: Mapping[str, Digested] | None = None,
    remade: Collection[str] = (),
    advance: Callable[[int], object] = unmeasured,
    part: Part | None = None,
) -> Findings:
    """Compare every leaf with the plan's claims about it.

    Args:
        plan: of one mapping.
        sides: the source and the result.
        claimed: the claims, if they aren't those that ``sides`` gives.
        digests: of the source's leaves, from the receipt.
        remade: leaves of the source that the plan itself made, with which nothing can be compared.
        advance: called with the bytes of each block that has been compared.
        part: of the tensors, only its share; the first part does what isn't shared out. Leaves of which nothing is
            claimed are found once all parts are joined.

    Raises:
        ConvkitError: a step can't be undone.
    """
    found = Findings(lost=lost(plan, sides))
    of_tensors, of_values = claimed or (claims(plan, sides), value_claims(plan, sides))
    of_tensors = list(of_tensors)
    if part is not None:
        of_tensors = [of_tensors[n] for n in stretch(part, (claim.spec.nbytes for claim in of_tensors))]
    if part is None or part.number == 1:
        for key, problem in (*misplaced(plan, sides), *overfilled(plan, sides)):
            found.fail(key, problem)
    else:
        of_values = ()
    # the largest first, so that no thread is left alone with it at the end
    of_tensors.sort(key=lambda claim: -claim.spec.nbytes)
    recorded = {key: entry.digest for key, entry in (digests or {}).items()}

    def compared(claim: Claim) -> list[_Leaf]:
        return _compared(claim, recorded if claim.checkpoint is sides.source else {}, advance)

    with workers(THREADS, sum(claim.spec.nbytes for claim in of_tensors)) as pool:
        for leaves in pool.map(compared, of_tensors):
            for leaf in leaves:
                _record(found, leaf, of_source=leaf.claim.checkpoint is sides.source)
    for value in of_values:
        of_source = value.checkpoint is sides.source
        _record_value(found, value, recorded.get(value.key) if of_source else None, of_source=of_source)
    if part is None:
        unanswered(plan, found, remade)
    return found


def unanswered(plan: Plan, found: Findings, remade: Collection[str] = ()) -> None:
    """Record the leaves of the source of which nothing was claimed."""
    answered = {*remade, *found.exact, *found.bounded, *found.lost, *found.failing}
    for key in plan.source_leaves:
        if key not in answered:
            found.fail(key, "the plan doesn't say how to restore it")


def _record(found: Findings, leaf: _Leaf, *, of_source: bool) -> None:
    problem = leaf.problem()
    if problem and leaf.claim.free:
        found.lost[leaf.key] = f"{problem}, and not kept"
    elif problem:
        found.fail(leaf.key, problem)
    elif of_source:
        (found.bounded if leaf.bound else found.exact).append(leaf.key)
    if of_source:
        found.bytes += leaf.claim.spec.nbytes
        found.digests += bool(leaf.recorded)
    found.max_ulp, found.bound = max(found.max_ulp, leaf.max_ulp), max(found.bound, leaf.bound)


def _record_value(found: Findings, claim: ValueClaim, recorded: str | None, *, of_source: bool) -> None:
    stored = value_of(claim.checkpoint, claim.key)
    if canonical_json(stored) != canonical_json(claim.value):
        found.fail(claim.key, f"is {_short(stored)}, and comes back as {_short(claim.value)}")
    elif recorded and digest_value(recorded.partition(":")[0], stored) != recorded:
        found.fail(claim.key, _CHANGED)
    elif of_source:
        found.exact.append(claim.key)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _compared(claim: Claim, recorded: dict[str, str], advance: Callable[[int], object]) -> list[_Leaf]:
    """Compare every name of a tensor, except those of another shape or dtype, which have failed already."""
    stored = {key: claim.checkpoint.leaves.get(key) for key in claim.keys}
    leaves = [
        _Leaf(claim, key, recorded.get(key, "")) for key, leaf in stored.items() if leaf and leaf.spec == claim.spec
    ]
    try:
        for block in claim.blocks():
            for leaf in leaves:
                leaf.add(block)
            advance(block.nbytes)
    except ConvkitError as error:
        for leaf in leaves:
            leaf.error = f"can't be compared: {error}"
    return leaves


class _Leaf:
    """A leaf being compared, block by block, with the elements that it must have."""

    def __init__(self, claim: Claim, key: str, recorded: str) -> None:
        self.claim = claim
        self.key = key
        self.recorded = recorded
        self.ops = claim.step.ops if claim.step else ()
        self.bound = bound(claim.step) if claim.step else 0.0
        self.done = self.wrong = 0
        self.first: int | None = None
        self.max_ulp = 0.0
        self.error = ""
        self.digests = BlockDigests(recorded.partition(":")[0]) if recorded else None

    def add(self, expected: np.ndarray) -> None:
        """Compare the next elements."""
        found = self.claim.checkpoint.read(self.key, self.done, self.done + expected.size)
        if not np.array_equal(found, expected):
            self._add_difference(found, expected)
        if self.digests:
            # values may have changed on the way back, so the source itself is checked against the receipt
            self.digests.update(found if self.ops else expected)
        self.done += expected.size

    def _add_difference(self, found: np.ndarray, expected: np.ndarray) -> None:
        dtype = self.claim.spec.dtype
        if self.bound and self.claim.step:
            apart = distance(found, expected, dtype, self.claim.step)
            self.max_ulp = max(self.max_ulp, float(apart.max(initial=0.0)))
            limit: float | np.ndarray = self.bound
            if self.claim.unmoved:
                alone = bound(replace(self.claim.step, folded=None))
                limit = np.where(self.claim.unmoved(self.done, self.done + found.size), alone, limit)
            wrong = np.flatnonzero(apart > limit)
        else:
            wrong = np.flatnonzero(differing(found, expected, self.ops, dtype))
        if wrong.size and self.first is None:
            self.first = self.done + int(wrong[0])
        self.wrong += wrong.size

    def problem(self) -> str:
        """The problem of the leaf; empty if there is none."""
        if self.error:
            return self.error
        same = not self.digests or combine(self.recorded.partition(":")[0], self.digests.blocks()) == self.recorded
        if not self.wrong:
            return "" if same else _CHANGED
        spec = self.claim.spec
        first = [int(index) for index in np.unravel_index(self.first or 0, spec.shape)]
        how = f"lie more than {self.bound:g} ulp from" if self.bound else "differ from"
        text = f"{self.wrong} of {spec.size} elements {how} {self.claim.origin}, the first at {first}"
        if self.bound:
            worst = f"by {self.max_ulp:.3g} ulp" if math.isfinite(self.max_ulp) else "finite on one side only"
            text += f", the worst {worst}"
        if self.digests and same and not self.ops:
            text += f"; {_SOURCE_CHANGED}: the restored leaf is the one that the receipt records"
        elif not same and self.ops:
            text += f"; {_SOURCE_CHANGED}: its digest differs from the receipt"
        return text
