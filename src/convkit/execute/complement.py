"""Find what the target alone can't restore, and check that tied copies are equal before one is dropped."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from convkit.checkpoint import Checkpoint, TensorSpec
from convkit.errors import ConvkitError
from convkit.execute.job import Job, copies
from convkit.execute.seen import Computed, Gathered
from convkit.mapping.ops import bits_of
from convkit.plan import Plan
from convkit.plan.pieces import Piece
from convkit.plan.step import Padding, Side, Step

if TYPE_CHECKING:
    import numpy as np


class Complement(Struct, frozen=True):
    """Source tensors that have no place in the target, or can't be restored bit by bit.

    Attributes:
        jobs: a leaf each, to be made as the source has it.
        unforeseen: keys of those that only the data shows to be needed.
    """

    jobs: list[Job]
    unforeseen: tuple[str, ...]


def find_complement(checkpoint: Checkpoint, plan: Plan) -> Complement:
    """Read what must be known before the first leaf is written: ties, derived leaves, crops and shifts.

    Raises:
        ConvkitError: copies that the plan regards as one leaf differ, or a derived leaf differs from its recipe
            though it must be equal.
    """
    different = _derived_otherwise(checkpoint, plan)
    _check_ties(checkpoint, plan)
    folded = [step.folded.key for step in plan.bound.steps if step.folded and step.folded.side == "source"]
    rounded = _rounded(checkpoint, plan)
    kept = {key: checkpoint.leaves[key] for key in (*plan.bound.left_behind, *folded, *rounded, *different)}
    jobs = [replace(job, digest_of=job.key) for job in copies("complement", checkpoint, kept)]
    cropped = (_cropped_job(checkpoint, step.sources[0], step.crop) for step in plan.bound.steps if step.crop)
    crops = [job for job in cropped if job]
    unforeseen = [*different, *(job.key for job in crops)]
    return Complement(jobs + crops, tuple(unforeseen))


def _derived_otherwise(checkpoint: Checkpoint, plan: Plan) -> list[str]:
    """Find derived leaves of the source that differ from their recipe in any bit.

    Raises:
        ConvkitError: a leaf differs that must be equal.
    """
    computed = Computed(plan.bound.derived, checkpoint)
    different = [leaf for leaf in plan.bound.derived if not computed.gives(leaf, checkpoint)]
    for leaf in different:
        if leaf.proven:
            raise ConvkitError(
                f"differs from '{leaf.recipe}' of {', '.join(leaf.of)}, so it couldn't be restored",
                path=checkpoint.path,
                key=leaf.key,
                remedy="drop it by name, if it doesn't matter: --drop",
            )
    return [leaf.key for leaf in different]


def _check_ties(checkpoint: Checkpoint, plan: Plan) -> None:
    """Check that copies that the plan regards as one leaf are equal bit by bit.

    Raises:
        ConvkitError: they differ.
    """
    for step in plan.bound.steps:
        for name, of in step.same:
            leaf, other = plan.source_leaves[name], plan.source_leaves[of]
            if leaf.same_as == of or other.same_as == name:
                continue
            if leaf.spec != other.spec or not _equal(checkpoint, name, of):
                raise ConvkitError(
                    f"differs from {of}, but the config says that they are one tensor",
                    path=checkpoint.path,
                    key=name,
                    remedy="say in the config that embeddings aren't tied, or repair the checkpoint",
                )


def _rounded(checkpoint: Checkpoint, plan: Plan) -> list[str]:
    """Find source leaves that are shifted and would differ in some bits if shifted back."""
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
    """The part cropped from a leaf, unless all of it is the fill."""
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
