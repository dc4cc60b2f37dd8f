"""Map the target on disk back, and compare it with the source on disk.

The round trip shares only the plan, which it reads as JSON, with the code that converted. Both sides are streamed, and
a second copy is written only on request. A round trip that passes proves that the conversion can be undone. It doesn't
prove that the model computes the same: ``equivalence`` does.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from convkit.checkpoint import Checkpoint
from convkit.checkpoint.progress import Meter, Progress
from convkit.errors import ConvkitError, UsageError
from convkit.files.receipt import COMPLEMENT_FORMAT, CONVERSION, complement_path, read_receipt
from convkit.formats import OTHERS, open_checkpoint
from convkit.verify.documents import LeafReceipt, Plan, read, read_plan
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
    recorded = read(LeafReceipt, receipt, target) if receipt else None
    planned = read_plan(Plan, plan, target if receipt else None)
    with ExitStack() as stack:
        opened = stack.enter_context(open_checkpoint(source, source_format or planned.source.format))
        try:
            other = stack.enter_context(open_checkpoint(target, target_format or planned.target.format))
        except ConvkitError as error:
            if isinstance(error, UsageError) or not target.exists():
                raise
            return check.judged([str(error)])
        problems: list[str] = []
        sides = Sides(opened, other, _complement(target, recorded, stack, problems))
        first, *later = _stages(planned, source, sides, stack, problems)
        claimed = _kept(keep, first, stack, problems, progress) if keep else first.claimed
        advance = _meter([claimed, *(stage.claimed for stage in later)], progress)
        known = recorded.source.leaves if recorded else None
        found = examine(first.plan, first.sides, claimed=claimed, digests=known, advance=advance)
        planted = _planted(first, found.failing, alone=not later) if faults else []
        planted += [fault for stage in later for fault in _later(stage, problems, advance, faults=faults)]
    return check.judged(
        problems + found.problems,
        planted,
        measured=_measured(found, len(planned.source_leaves)),
        bound={"leaves_failing": 0, "max_ulp": found.bound},
        deviations=named(planned.deviations),
        details=_details(found, keep, planned),
        plugins=map(OTHERS.plugin, (opened.format, other.format)),
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


def _meter(claimed: Iterable[Claimed], progress: Progress | None) -> Meter:
    """A meter of the bytes that are compared."""
    return Meter(sum(claim.spec.nbytes for tensors, _ in claimed for claim in tensors), progress)


def _later(stage: Stage, problems: list[str], advance: Meter, *, faults: bool) -> list[Fault]:
    """Check a mapping after the first one against its target, for what the source can't show."""
    found = examine(stage.plan, stage.sides, claimed=stage.claimed, remade=stage.remade, advance=advance)
    problems += in_words(stage.plan, found.problems)
    return _planted(stage, found.failing, alone=False) if faults else []


def _planted(stage: Stage, failing: Collection[str], *, alone: bool) -> list[Fault]:
    """Plant faults in one mapping's target; if there are several mappings, each is named."""
    found = plant(stage.plan, stage.sides.source, stage.sides.target, failing, _problems)
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


def _problems(plan: Plan, source: Checkpoint, target: Checkpoint) -> list[str]:
    """Find the problems of checkpoints with planted faults, by the same comparison."""
    return examine(plan, Sides(source, target)).problems


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
