"""Compare both sides of a conversion with the claims of its plan."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import numpy as np
from msgspec import Struct, field

from convkit.checkpoint.digests import canonical_json, digest_value
from convkit.checkpoint.progress import unmeasured
from convkit.checkpoint.threads import workers
from convkit.files.part import Part, stretch
from convkit.verify.blocks import BLOCK
from convkit.verify.documents import Digested, Plan
from convkit.verify.roundtrip.compare import CHANGED, Compared, compare, units
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


class Findings(Struct):
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
    recorded = {key: entry.digest for key, entry in (digests or {}).items()}

    def compared(together: Sequence[Claim]) -> list[Compared]:
        return compare(together, lambda claim: recorded if claim.checkpoint is sides.source else {}, advance)

    # what malloc (glibc) once freed as one piece tells it how much to keep: else each block would be of new pages
    np.empty(2 * BLOCK, np.uint8)
    with workers(THREADS, sum(claim.spec.nbytes for claim in of_tensors)) as pool:
        for leaves in pool.map(compared, units(of_tensors)):
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


def _record(found: Findings, leaf: Compared, *, of_source: bool) -> None:
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
        found.fail(claim.key, CHANGED)
    elif of_source:
        found.exact.append(claim.key)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
