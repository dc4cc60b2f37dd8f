"""Map the target on disk back, and compare it with the source on disk.

The round trip shares only the plan, which it reads as JSON, with the code that converted. Both sides are streamed, and
a second copy is written only on request. A round trip that passes proves that the conversion can be undone. It doesn't
prove that the model computes the same: ``equivalence`` does.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from convkit.checkpoint import Checkpoint
from convkit.checkpoint.progress import Meter, Progress
from convkit.checkpoint.source_files import Ranged
from convkit.errors import ConvkitError, UsageError
from convkit.files.part import Part, stretch
from convkit.files.receipt import COMPLEMENT_FORMAT, CONVERSION, complement_path, read_receipt
from convkit.files.scratch import Scratch
from convkit.formats import OTHERS, open_checkpoint
from convkit.verify.documents import Digested, LeafReceipt, Plan, read, read_plan
from convkit.verify.judged import Check, named
from convkit.verify.roundtrip.chain import Claimed, Stage, in_words, plans_of, stages
from convkit.verify.roundtrip.examine import THREADS, Findings, examine
from convkit.verify.roundtrip.faults import plant
from convkit.verify.roundtrip.reconvert import Kept, Sides
from convkit.verify.roundtrip.write_reconverted import from_kept, write
from convkit.verify.verdict import Fault, Verdict


def roundtrip(
    source: Path,
    target: Path,
    plan: Mapping[str, Any],
    *,
    receipt: Mapping[str, Any] | None = None,
    keep: Path | None = None,
    source_format: str | None = None,
    target_format: str | None = None,
    faults: bool = True,
    progress: Progress | None = None,
) -> Verdict:
    """Check whether ``plan``, undone on ``target``, gives ``source``: bit by bit, or within its declared bound.

    Args:
        source: the checkpoint that was converted.
        target: the result.
        plan: of the receipt, or made for a conversion that somebody else made.
        receipt: of the conversion: its digests of the source are compared too, and the complement is used.
        keep: a new folder for the reconverted checkpoint, whose bytes are then compared.
        source_format, target_format: formats that differ from the plan's.
        faults: whether the comparison must also find faults planted in small leaves, in memory.
        progress: called with the bytes done so far and the bytes in all: written for ``keep``, then compared.

    ``measured`` counts the leaves of the source: in all, equal, within a bound, lost (dropped, or left behind by
    others). ``details`` names the lost ones, and what the source lacked. Each failing leaf is a problem.

    Raises:
        ConvkitError: the source can't be read, or the plan can't be undone. The target's problems are the verdict's.
        UsageError: ``keep`` exists already.
    """
    check = Check("roundtrip", source, target)
    with ExitStack() as stack:
        try:
            both = Both.opened(source, target, plan, stack, receipt=receipt, formats=(source_format, target_format))
        except UnreadError as unread:
            return check.judged([str(unread)])
        first, *later = both.stages
        claimed = _kept(keep, first, stack, both.problems, progress) if keep else first.claimed
        advance = both.meter(progress, claimed)
        found = [examine(first.plan, first.sides, claimed=claimed, digests=both.digests, advance=advance)]
        for stage in later:
            found.append(examine(stage.plan, stage.sides, claimed=stage.claimed, remade=stage.remade, advance=advance))
        return both.judged(check, found, keep, faults=faults)


class UnreadError(Exception):
    """The target can't be read; the text says why."""


class Both(Struct):
    """Both sides of a conversion, opened, and the mappings between them.

    Attributes:
        digests: of the source's leaves, from the receipt.
        formats: of source and target.
        problems: what is wrong beside the leaves.
    """

    plan: Plan
    stages: list[Stage]
    digests: Mapping[str, Digested] | None
    formats: tuple[str, str]
    problems: list[str]

    @classmethod
    def opened(
        cls,
        source: Path,
        target: Path,
        plan: Mapping[str, Any],
        stack: ExitStack,
        *,
        receipt: Mapping[str, Any] | None = None,
        formats: tuple[str | None, str | None] = (None, None),
    ) -> Both:
        """Open both sides, which ``stack`` closes; ``formats`` are those that differ from the plan's.

        Raises:
            ConvkitError: the source can't be read, or the plan can't be undone.
            UnreadError: the target can't be read.
        """
        recorded = read(LeafReceipt, receipt, target) if receipt else None
        planned = read_plan(Plan, plan, target if receipt else None)
        opened = stack.enter_context(open_checkpoint(source, formats[0] or planned.source.format))
        try:
            other = stack.enter_context(open_checkpoint(target, formats[1] or planned.target.format))
        except ConvkitError as error:
            if isinstance(error, UsageError) or not target.exists():
                raise
            raise UnreadError(str(error)) from None
        problems: list[str] = []
        scratch = None if isinstance(target, Ranged) else Scratch(target.parent)
        if scratch:
            stack.callback(scratch.close)
        sides = Sides(opened, other, _complement(target, recorded, stack, problems), scratch=scratch)
        found = _stages(planned, source, sides, stack, problems)
        digests = recorded.source.leaves if recorded else None
        return cls(planned, found, digests, (opened.format, other.format), problems)

    def meter(self, progress: Progress | None, first: Claimed | None = None, part: Part | None = None) -> Meter:
        """A meter of the bytes that are compared; ``first`` are the claims of the first mapping, if it has others."""
        claimed = [first or self.stages[0].claimed, *(stage.claimed for stage in self.stages[1:])]
        sizes = [[claim.spec.nbytes for claim in tensors] for tensors, _ in claimed]
        shares = [[each[n] for n in stretch(part, each)] for each in sizes] if part else sizes
        return Meter(sum(map(sum, shares)), progress)

    def judged(self, check: Check, found: Sequence[Findings], keep: Path | None = None, *, faults: bool) -> Verdict:
        """The verdict on the findings of each mapping, and on faults that are planted now."""
        first, alone, planted = found[0], len(found) == 1, list[Fault]()
        # of mappings after the first one, what the source can't show
        later = [in_words(stage.plan, own.problems) for stage, own in zip(self.stages[1:], found[1:], strict=True)]
        for stage, own in zip(self.stages, found, strict=True):
            planted += _planted(stage, own.failing, alone=alone) if faults else []
        return check.judged(
            [*self.problems, *(line for lines in later for line in lines), *first.problems],
            planted,
            measured=_measured(first, len(self.plan.source_leaves)),
            bound={"leaves_failing": 0, "max_ulp": first.bound},
            deviations=named(self.plan.deviations),
            details=_details(first, keep, self.plan),
            plugins=map(OTHERS.plugin, self.formats),
        )


def _stages(plan: Plan, source: Path, sides: Sides, stack: ExitStack, problems: list[str]) -> list[Stage]:
    """The mappings of the conversion, with the complement of an earlier conversion if this one restored it; the source
    without what wraps its keys.
    """
    document = read_receipt(source, CONVERSION) if any(_restores(part) for part in plans_of(plan)) else None
    before = read(LeafReceipt, document, source) if document else None
    plain = plan.source.wrapped.off(sides.source)
    sides = replace(sides, source=plain, earlier=_complement(source, before, stack, problems))
    return stages(plan, sides, read_plan(Plan, before.plan, source) if before else None)


def _planted(stage: Stage, failing: Collection[str], *, alone: bool) -> list[Fault]:
    """Plant faults in one mapping's target; if there are several mappings, each is named."""
    sides = stage.sides
    found = plant(stage.plan, sides.source, sides.target, failing, partial(_problems, sides.scratch))
    return (
        [*found] if alone else [Fault(n, f.caught, f.measured) for f in found for n in in_words(stage.plan, [f.name])]
    )


def _restores(plan: Plan) -> bool:
    """Whether the conversion restored what an earlier one had kept."""
    refilled = any(step.pad and step.pad.kept_as for step in plan.steps)
    return refilled or any(leaf.origin == "restored" for leaf in plan.target_leaves.values())


def _complement(path: Path, receipt: LeafReceipt | None, stack: ExitStack, problems: list[str]) -> Kept | None:
    """The complement of the conversion to ``path``."""
    if receipt is None:
        return None
    complement = receipt.complement
    tensors = None
    if complement.tensors:
        try:
            tensors = stack.enter_context(open_checkpoint(complement_path(path), COMPLEMENT_FORMAT))
        except ConvkitError as error:
            problems.append(str(error))
    return Kept(tensors, complement.values)


def _kept(keep: Path, stage: Stage, stack: ExitStack, problems: list[str], progress: Progress | None) -> Claimed:
    """Write the source to ``keep`` and return the claims about it; if that fails, the claims about the streams."""
    claimed, sides = stage.claimed, stage.sides
    try:
        kept = stack.enter_context(write(keep, claimed, sides, THREADS, progress))
    except UsageError:
        raise
    except ConvkitError as error:
        problems.append(f"the reconverted source can't be kept: {error}")
        return claimed
    return from_kept(claimed, sides, kept)


def _problems(scratch: Scratch | None, plan: Plan, source: Checkpoint, target: Checkpoint) -> list[str]:
    """Find the problems of checkpoints with planted faults, by the same comparison."""
    return examine(plan, Sides(source, target, scratch=scratch)).problems


def _measured(found: Findings, leaves: int) -> dict[str, Any]:
    return {
        "leaves_total": leaves,
        "leaves_exact": len(found.exact),
        "leaves_bounded": len(found.bounded),
        "leaves_dropped": len(found.lost),
        "leaves_failing": len(found.failing),
        "bytes": found.bytes,
        "max_ulp": found.max_ulp,
    }


def _details(found: Findings, keep: Path | None, plan: Plan) -> dict[str, Any]:
    """The details beside the figures."""
    return {
        "exactness": f"within {found.bound:g} ulp" if found.bound else "bit by bit",
        "digests_compared": found.digests,
        "lost": found.lost,
        "kept": str(keep) if keep else None,
        **({"missing": plan.missing} if plan.missing else {}),
    }
