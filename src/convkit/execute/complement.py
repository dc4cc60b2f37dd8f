"""What the target alone can't bring back, and what must be equal before a copy is dropped."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from convkit.checkpoint import Checkpoint, TensorSpec
from convkit.errors import ConvkitError
from convkit.execute.slabs import Piece
from convkit.mapping.ops import bits_of
from convkit.plan import Plan
from convkit.plan.step import Padding, Side, Step

if TYPE_CHECKING:
    import numpy as np
from convkit.execute.job import Job, copies
from convkit.execute.seen import Computed, Gathered


def check_ties(checkpoint: Checkpoint, plan: Plan) -> None:
    """Copies that the plan takes for one leaf must be equal bit by bit, and so must what is derived and to be proven.

    Raises:
        ConvkitError: they aren't.
    """
    computed = Computed(plan.bound.derived, checkpoint)
    for derived in plan.bound.derived:
        if derived.proven and not computed.gives(derived, checkpoint):
            raise ConvkitError(
                f"is not what '{derived.recipe}' gives of {', '.join(derived.of)}, and couldn't be made again",
                path=checkpoint.path,
                key=derived.key,
                remedy="drop it by name, if it doesn't matter: --drop",
            )
    for step in plan.bound.steps:
        for name, of in step.same:
            leaf, other = plan.source_leaves[name], plan.source_leaves[of]
            if leaf.same_as == of or other.same_as == name:
                continue
            if leaf.spec != other.spec or not _equal(checkpoint, name, of):
                raise ConvkitError(
                    f"differs from {of}, though the config says that they are one tensor",
                    path=checkpoint.path,
                    key=name,
                    remedy="say in the config that embeddings aren't tied, or repair the checkpoint",
                )


def lost_on_the_way(checkpoint: Checkpoint, plan: Plan) -> list[str]:
    """Source leaves of which the target alone wouldn't bring back all, but for what shifting rounds."""
    shifted = _rounded(checkpoint, plan)
    kept = (job.key for job in complement_jobs(checkpoint, plan) if job.key not in shifted)
    return list(dict.fromkeys([*plan.bound.left_behind, *kept]))


def complement_jobs(checkpoint: Checkpoint, plan: Plan) -> list[Job]:
    """Source tensors that find no place in the target, or can't be made again bit by bit."""
    computed = Computed(plan.bound.derived, checkpoint)
    other = [leaf.key for leaf in plan.bound.derived if not computed.gives(leaf, checkpoint)]
    folded = [step.folded.key for step in plan.bound.steps if step.folded and step.folded.side == "source"]
    shifted = _rounded(checkpoint, plan)
    kept = {key: checkpoint.leaves[key] for key in (*plan.bound.left_behind, *folded, *shifted, *other)}
    jobs = [replace(job, digest_of=job.key) for job in copies("complement", checkpoint, kept)]
    cropped = [_cropped_job(checkpoint, step.sources[0], step.crop) for step in plan.bound.steps if step.crop]
    return jobs + [job for job in cropped if job]


def _rounded(checkpoint: Checkpoint, plan: Plan) -> list[str]:
    """Source leaves that are shifted, and wouldn't be the same bit by bit if they were shifted back."""
    return [
        side.key
        for step in plan.bound.steps
        if step.shifted
        for side in step.sources
        if not all(_shifts_back(step, side.spec.dtype, slab) for _, slab in checkpoint.blocks(side.key))
    ]


def _shifts_back(step: Step, dtype: str, slab: np.ndarray) -> bool:
    data = slab
    for op in (*step.ops, *(op.inverse() for op in reversed(step.ops))):
        data = op.apply(data, dtype)
    return bool((data == slab).all())


def _cropped_job(checkpoint: Checkpoint, side: Side, crop: Padding) -> Job | None:
    """What is cropped of a leaf, unless it is the fill throughout."""
    part = crop.beyond(side.spec.shape)
    spec = TensorSpec(part.shape, side.spec.dtype)
    piece = Piece(side.key, crop.kept_as, part.shape, part.offset, part.strides, 0, part.own_strides)
    job = Job("complement", crop.kept_as, spec, checkpoint, [piece] if spec.size else [])
    fill = bits_of(crop.fill, spec.dtype)
    return None if all((data == fill).all() for _, data in Gathered([job]).blocks(job.key)) else job


def _equal(checkpoint: Checkpoint, one: str, other: str) -> bool:
    import numpy as np

    return all(
        np.array_equal(data, checkpoint.read(other, start, start + data.size)) for start, data in checkpoint.blocks(one)
    )
