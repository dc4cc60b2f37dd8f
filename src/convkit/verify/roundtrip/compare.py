"""Compare the leaves of a checkpoint with the claims about them, block by block.

Leaves that are made of the same decoded leaves are compared by one thread, so that these are decoded once. Where a
conversion copied the files of a leaf and they still have the same bytes, one side is decoded: it shows that they can
be, and gives the digest.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from convkit.checkpoint.digests import BlockDigests, combine
from convkit.checkpoint.source_files import Ranged
from convkit.errors import ConvkitError
from convkit.verify.blocks import Held, blocks
from convkit.verify.documents import replace
from convkit.verify.roundtrip.arithmetic import bound, differing, distance
from convkit.verify.roundtrip.reconvert import Claim

_SOURCE_CHANGED = "the source was changed since the conversion"
CHANGED = "its digest differs from the receipt: the leaf or the receipt was changed after the conversion"

#: bytes of two files that are compared at once
_PIECE = 1 << 20


def units(claims: Sequence[Claim]) -> list[list[Claim]]:
    """The claims in the groups that one thread compares, the largest first, so that no thread is left alone with it at
    the end.
    """
    found: dict[int, list[Claim]] = {}
    for number, claim in enumerate(claims):
        found.setdefault(id(claim.of) if _decoded(claim) else ~number, []).append(claim)
    return sorted(found.values(), key=lambda group: -sum(claim.spec.nbytes for claim in group))


def _decoded(claim: Claim) -> bool:
    """Whether the claim's elements are made of a leaf that must be decoded."""
    held = claim.of
    if held is None or claim.step is None:
        return False
    leaves = ((side.key, held.leaves.get(side.key)) for side in claim.step.targets)
    return any(leaf is not None and leaf.spec is not None and held.granularity(key) > 1 for key, leaf in leaves)


def compare(
    group: Sequence[Claim], recorded: Callable[[Claim], Mapping[str, str]], advance: Callable[[int], object]
) -> list[Compared]:
    """Compare every name of each tensor, except those of another shape or dtype, which have failed already.

    Args:
        group: claims that one thread compares, those made of the same parts one after another.
        recorded: gives digests of leaves of the claim's checkpoint, by key.
        advance: called with the bytes of each block that has been compared.
    """
    found: list[Compared] = []
    for _, some in itertools.groupby(group, key=lambda claim: claim.at):
        running = [_Running(claim, recorded(claim), advance) for claim in some]
        found += [leaf for each in running for leaf in each.leaves]
        while running:
            # what is least advanced, so that all need the same part of what they are made of
            behind = min(running, key=lambda each: each.done / max(1, each.claim.spec.size))
            if not behind.advanced():
                running.remove(behind)
    for claim in group:
        if claim.of is not None:
            claim.of.release()
    return found


class _Running:
    """A claim, of which one block at a time is compared."""

    def __init__(self, claim: Claim, recorded: Mapping[str, str], advance: Callable[[int], object]) -> None:
        stored = {key: claim.checkpoint.leaves.get(key) for key in claim.keys}
        self.claim = claim
        self.done = 0
        self.leaves = [
            Compared(claim, key, recorded.get(key, ""))
            for key, leaf in stored.items()
            if leaf and leaf.spec == claim.spec
        ]
        self._advance = advance
        self._blocks: Iterator[np.ndarray] | None = None
        self._copied = False

    def advanced(self) -> bool:
        """Compare the next block; False if there is none, or it can't be."""
        try:
            if self._blocks is None:
                self._copied = bool(self.leaves) and copied(self.claim)
                self._blocks = (
                    blocks(self.claim.checkpoint, self.leaves[0].key) if self._copied else self.claim.blocks()
                )
            block = next(self._blocks, None)
            if block is None:
                return False
            for leaf in self.leaves:
                leaf.take(block) if self._copied else leaf.add(block)
        except ConvkitError as error:
            for leaf in self.leaves:
                leaf.error = f"can't be compared: {error}"
            return False
        self.done += block.size
        self._advance(block.nbytes)
        return True


def copied(claim: Claim) -> bool:
    """Whether the leaf only moved, and the files that hold it on both sides have the same names and bytes now."""
    if claim.moved is None or len(claim.keys) != 1:
        return False
    tensors, key = claim.moved
    if key not in tensors.leaves or tensors.leaves[key].spec != claim.spec:
        return False
    here, there = claim.checkpoint.leaf_files(claim.keys[0]), tensors.leaf_files(key)
    if not here or not there or here.keys() != there.keys():
        return False
    return all(_same_bytes(here[name], there[name]) for name in here)


def _same_bytes(one: Path, other: Path) -> bool:
    """Whether two files have the same bytes; False, too, if that takes more than reading a disk."""
    if isinstance(one, Ranged) or isinstance(other, Ranged):
        return False
    try:
        with one.open("rb", buffering=0) as here, other.open("rb", buffering=0) as there:
            while (piece := here.read(_PIECE)) == there.read(_PIECE):
                if not piece:
                    return True
    except OSError:  # whoever decodes the file says what is wrong
        return False
    return False


class Compared:
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
        self._stored = Held(claim.checkpoint)

    def add(self, expected: np.ndarray) -> None:
        """Compare the next elements."""
        found = self._stored.read(self.key, self.done, self.done + expected.size)
        if not np.array_equal(found, expected):
            self._add_difference(found, expected)
        if self.digests:
            # values may have changed on the way back, so the source itself is checked against the receipt
            self.digests.update(found if self.ops else expected)
        self.done += expected.size

    def take(self, found: np.ndarray) -> None:
        """Take over the next elements, whose stored bytes were compared."""
        if self.digests:
            self.digests.update(found)
        self.done += found.size

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
            return "" if same else CHANGED
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
