"""The leaves that a conversion makes, each a job: where its bytes come from, and how they are gathered.

A gather gives any run of elements of one leaf: from the mapped source directly where the leaf only
moves, else through a buffer filled by strided copies, with the step's ops applied. Of sources
whose bytes must be decoded it reads what the range needs, in the pieces that are decoded together, and holds
the last of them: a leaf that is needed crosswise is held whole, or layer by layer where layers are stacked.
"""

from __future__ import annotations

from convkit.checkpoint import Leaf, Tensors
from convkit.checkpoint.views import Joined
from convkit.execute.fold import Multiplied
from convkit.execute.job import Job, copies
from convkit.execute.pieces import pieces
from convkit.execute.seen import Computed, Gathered
from convkit.execute.slabs import Piece
from convkit.plan import Plan
from convkit.plan.step import Step


def target_jobs(plan: Plan, checkpoint: Tensors, earlier: Tensors | None) -> list[Job]:
    """Every tensor of the target, from the source, recipes, and the complement of an ``earlier`` conversion."""
    jobs = []
    for step in plan.bound.steps:
        parts = [] if step.value else pieces(step)
        moved = not step.value and _is_move(step, parts)
        for side in () if step.value else step.targets:
            mine = [piece for piece in parts if piece.target == side.key]
            reader = checkpoint
            if fold := step.folded:
                if earlier and fold.side == "target" and side.key == fold.key:
                    jobs += copies("target", earlier, {side.key: Leaf(side.key, side.spec)})
                    continue
                reader = Multiplied(checkpoint, fold) if fold.side == "source" else checkpoint
            if earlier and side.key in step.kept:
                jobs += copies("target", earlier, {side.key: Leaf(side.key, side.spec)})
                continue
            if earlier and step.pad and step.pad.kept_as:
                part = step.pad.beyond(side.spec.shape)
                name = step.pad.kept_as
                mine.append(Piece(name, side.key, part.shape, 0, part.own_strides, part.offset, part.strides))
                reader = Joined(checkpoint, earlier)
            jobs.append(Job("target", side.key, side.spec, reader, mine, step, step.sources[0].key if moved else None))
            jobs += [Job("target", name, side.spec, reader, mine, step) for name, of in step.also if of == side.key]
    jobs += copies("target", Computed(plan.to_compute, Gathered(jobs)))
    return jobs + (copies("target", earlier, plan.restored) if earlier else [])


def _is_move(step: Step, pieces: list[Piece]) -> bool:
    """Whether the one target has the bytes of the one source."""
    if step.ops or step.pad or step.crop or step.folded or len(step.sources) != 1 or len(step.targets) != 1:
        return False
    if len(pieces) != 1:
        return step.sources[0].spec.size == 0
    return pieces[0].source_strides == pieces[0].target_strides and pieces[0].source_offset == pieces[0].target_offset
