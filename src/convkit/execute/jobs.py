"""List the jobs of a conversion, one per leaf: where its bytes come from, and how they are gathered."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from convkit.checkpoint import Leaf, Tensors
from convkit.checkpoint.views import Joined
from convkit.execute.fold import Multiplied
from convkit.execute.job import Job, copies
from convkit.execute.seen import Computed, Gathered
from convkit.plan import Plan
from convkit.plan.pieces import Piece, pieces
from convkit.plan.step import Padding, Side, Step


def target_jobs(plan: Plan, checkpoint: Tensors, earlier: Tensors | None) -> list[Job]:
    """Every tensor of the target, from the source, recipes, and the complement of an ``earlier`` conversion."""
    jobs = [job for step in plan.bound.steps if not step.value for job in _of_step(step, checkpoint, earlier)]
    jobs += copies("target", Computed(plan.to_compute, Gathered(jobs)))
    return jobs + (copies("target", earlier, plan.restored, stored=True) if earlier else [])


def from_complement(plan: Plan) -> bool:
    """Whether the target needs anything from the complement of an earlier conversion."""
    return any(leaf.spec for leaf in plan.restored.values()) or any(
        _held_whole(step) or (step.pad and step.pad.kept_as) for step in plan.bound.steps
    )


def _of_step(step: Step, checkpoint: Tensors, earlier: Tensors | None) -> Iterator[Job]:
    parts = pieces(step)
    moved = step.sources[0].key if _is_move(step, parts) else None
    fold = step.folded
    reader = Multiplied(checkpoint, fold) if fold and fold.side == "source" else checkpoint
    for side in step.targets:
        if earlier and side.key in _held_whole(step):
            (job,) = copies("target", earlier, {side.key: Leaf(side.key, side.spec)}, stored=True)
        else:
            mine = [piece for piece in parts if piece.target == side.key]
            job = Job("target", side.key, side.spec, reader, mine, step, moved)
            if earlier and step.pad and step.pad.kept_as:
                job = _padded(job, side, step.pad, Joined(checkpoint, earlier))
        yield job
        twins = (name for name, of in step.also if of == side.key)
        yield from (replace(job, key=name, digest_of=None, blocks={}) for name in twins)


def _held_whole(step: Step) -> tuple[str, ...]:
    """Target leaves that are restored from an earlier complement instead of being made by the step."""
    folded = (step.folded.key,) if step.folded and step.folded.side == "target" else ()
    return (*folded, *step.kept)


def _padded(job: Job, side: Side, pad: Padding, reader: Tensors) -> Job:
    """Restore the cropped part from the complement instead of padding."""
    part = pad.beyond(side.spec.shape)
    back = Piece(pad.kept_as, side.key, part.shape, 0, part.own_strides, part.offset, part.strides)
    return replace(job, reader=reader, pieces=[*job.pieces, back], blocks={})


def _is_move(step: Step, pieces: list[Piece]) -> bool:
    """Whether the step has one source and one target with the same bytes."""
    if step.ops or step.pad or step.crop or step.folded or len(step.sources) != 1 or len(step.targets) != 1:
        return False
    if len(pieces) != 1:
        return step.sources[0].spec.size == 0
    return pieces[0].source_strides == pieces[0].target_strides and pieces[0].source_offset == pieces[0].target_offset
