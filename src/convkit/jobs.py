"""The leaves that a conversion makes, each a job: where its bytes come from, and how they are gathered.

A gather gives any run of elements of one leaf: from the mapped source directly where the leaf only
moves, else through a buffer filled by strided copies, with the step's ops applied. Of sources
whose bytes must be decoded it reads what the range needs, in the pieces that are decoded together, and holds
the last of them: a leaf that is needed crosswise is held whole, or layer by layer where layers are stacked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from threading import local
from typing import TYPE_CHECKING

from convkit.checkpoint import Checkpoint, Leaf
from convkit.errors import ConvkitError
from convkit.fold import Multiplied
from convkit.ops import bits_of
from convkit.plan import Plan
from convkit.recipes import OF_LEAVES, RECIPES, Read
from convkit.slabs import SLAB, clip, copy_box
from convkit.steps import DerivedLeaf, Edge, Piece, Side, Step
from convkit.tensors import TensorSpec, carrier, value_dtype

if TYPE_CHECKING:
    import numpy as np


#: how much of what is read of a decoded source may be read in vain, so that less of it is held
_CLOSE = 1.25


@dataclass
class Job:
    """One leaf to make: where from, and for which output (``target``, ``complement``).

    ``digest_of`` names the source leaf that has the same bytes.
    """

    role: str
    key: str
    spec: TensorSpec
    reader: Checkpoint
    pieces: list[Piece]
    step: Step | None = None
    digest_of: str | None = None
    open_runs: int = 0
    blocks: dict[int, list[bytes]] = field(default_factory=dict)

    def files(self) -> dict[str, Path] | None:
        """The files that may be copied as they are: those of the source leaf, if it has some of its own."""
        if self.digest_of is None or self.reader.leaves[self.digest_of].spec != self.spec:
            return None
        return self.reader.leaf_files(self.digest_of)


class Gather:
    """Gives a slab of one leaf: from the mapped source directly, or through a buffer.

    Args:
        decoded_whole: is told of every source leaf that was decoded whole, with its elements.
    """

    def __init__(self, job: Job, decoded_whole: Callable[[str, np.ndarray], None] | None = None) -> None:
        self.job = job
        self.decoded_whole = decoded_whole
        step = job.step
        self.ops = step.ops if step else ()
        self.pad = step.pad if step else None
        self.dtype = step.sources[0].spec.dtype if step else job.spec.dtype
        self.crosswise = any(_crosswise(piece) for piece in job.pieces)
        self.held: dict[str, np.ndarray] = {}
        self.decoded: dict[str, tuple[int, np.ndarray]] = {}
        #: pieces of sources that must be decoded, and how much of the leaf is best made of each at once
        self.units: list[tuple[Piece, int]] = []
        for key in dict.fromkeys(piece.source for piece in job.pieces):
            view = job.reader.view(key)
            if view is None:
                self.units += [(piece, _dense(piece)) for piece in job.pieces if piece.source == key]
            else:
                self.held[key] = view.reshape(-1) if view.flags.c_contiguous else job.reader.read(key)

    def __call__(self, start: int, stop: int) -> np.ndarray:
        """Elements ``[start, stop)`` of the leaf: 1-D, carrier dtype; a view where nothing is to be done."""
        import numpy as np

        self._decode(start, stop)
        boxes = [(piece.source, box) for piece in self.job.pieces for box in clip(piece, start, stop)]
        if len(boxes) == 1 and not self.ops and boxes[0][1].contiguous:
            key, box = boxes[0]
            low, high = box.source_span
            if high - low == stop - start:
                first, data = self._holding(key)
                return data[low - first : high - first]
        buffer = np.empty(stop - start, dtype=carrier(self.dtype))
        if self.pad:
            buffer[:] = bits_of(self.pad.fill, self.dtype)
        for key, box in boxes:
            first, data = self._holding(key)
            copy_box(box, data, first, buffer, start)
        dtype = self.dtype
        for op in self.ops:
            buffer = op.apply(buffer, dtype)
            dtype = op.dtype(dtype)
        return buffer

    def _holding(self, key: str) -> tuple[int, np.ndarray]:
        """Elements of a source, and the position of the first of them."""
        held = self.held.get(key)
        return self.decoded[key] if held is None else (0, held)

    def _decode(self, start: int, stop: int) -> None:
        """Have what a range needs of the sources that must be decoded."""
        spans: dict[str, list[tuple[int, int]]] = {}
        for piece, unit in self.units:
            before, after = start - piece.target_offset, stop - piece.target_offset
            around = (piece.target_offset + before // unit * unit, piece.target_offset - -after // unit * unit)
            if boxes := list(clip(piece, *around)):
                spans.setdefault(piece.source, []).extend(box.source_span for box in boxes)
        for key in self.decoded.keys() - spans.keys():
            del self.decoded[key]
        for key, some in spans.items():
            low, high = min(low for low, _ in some), max(high for _, high in some)
            held = self.decoded.get(key)
            covered = held is not None and held[0] <= low and high <= held[0] + held[1].size
            del held  # the last reference but for that of the dict
            if not covered:
                self.decoded[key] = self._read_on(key, low, high)

    def _read_on(self, key: str, low: int, high: int) -> tuple[int, np.ndarray]:
        """Elements ``[low, high)`` of a source and what is decoded with them; what is held of them isn't read again."""
        import numpy as np

        grain = self.job.reader.granularity(key)
        first, stop = low - low % grain, -(-high // grain) * grain
        held_first, held = self.decoded.pop(key, (0, None))
        tail = None
        if held is not None and held_first <= low < held_first + held.size:
            first, tail = low, held[low - held_first :].copy()
        held = None  # let go of it before more is read
        data = self.job.reader.read(key, first + (0 if tail is None else tail.size), stop)
        spec = self.job.reader.leaves[key].spec
        if self.decoded_whole and spec and spec.size == data.size:
            self.decoded_whole(key, data)
        return first, data if tail is None else np.concatenate([tail, data])


class Computed(Checkpoint):
    """Derived leaves as a checkpoint: each is computed by its recipe, from leaves ``beside`` it, when it is read."""

    def __init__(self, derived: Iterable[DerivedLeaf], beside: Checkpoint) -> None:
        self.derived = {leaf.key: leaf for leaf in derived}
        self.leaves = {key: Leaf(key, leaf.spec) for key, leaf in self.derived.items()}
        self.beside = beside

    def read(self, key: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Computed by the leaf's recipe."""
        import numpy as np

        leaf = self.derived[key]
        if leaf.recipe in OF_LEAVES:
            made = OF_LEAVES[leaf.recipe](leaf.spec, [self._read(name) for name in leaf.of], **leaf.arguments)
        else:
            made = RECIPES[leaf.recipe](**leaf.arguments)
        values = np.ascontiguousarray(made.astype(value_dtype(leaf.spec.dtype)))
        return values.view(carrier(leaf.spec.dtype)).reshape(-1)[start:stop]

    def _read(self, key: str) -> Read:
        spec = self.beside.leaves[key].spec
        assert spec is not None
        return Read(spec, lambda start, stop: self.beside.read(key, start, stop).view(value_dtype(spec.dtype)))

    def gives(self, leaf: DerivedLeaf, stored: Checkpoint) -> bool:
        """Whether the recipe gives what is stored, bit by bit."""
        import numpy as np

        made = self.read(leaf.key)
        return made.size == leaf.spec.size and np.array_equal(made, stored.read(leaf.key))


class _Joined(Checkpoint):
    """Two checkpoints as one to read from; where both have a key, the first one answers."""

    def __init__(self, one: Checkpoint, other: Checkpoint) -> None:
        self._of = dict.fromkeys(other.leaves, other) | dict.fromkeys(one.leaves, one)

    def read(self, key: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Read by the one that has it."""
        return self._of[key].read(key, start, stop)

    def view(self, key: str) -> np.ndarray | None:
        """Seen through the one that has it."""
        return self._of[key].view(key)

    def granularity(self, key: str) -> int:
        """That of the one that has it."""
        return self._of[key].granularity(key)


class _Own(local):
    """The gathers of one thread; those in use hold what they read of sources that must be decoded."""

    def __init__(self, jobs: dict[str, Job]) -> None:
        self.gather = lru_cache(maxsize=2)(lambda key: Gather(jobs[key]))


class _Gathered(Checkpoint):
    """Leaves as a checkpoint that exists nowhere: each is made by its job when it is read."""

    def __init__(self, jobs: Iterable[Job]) -> None:
        made = {job.key: job for job in jobs}
        self.leaves = {key: Leaf(key, job.spec) for key, job in made.items()}
        self._own = _Own(made)

    def read(self, key: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Made by its job."""
        spec = self.leaves[key].spec
        assert spec is not None
        return self._own.gather(key)(start, spec.size if stop is None else stop)


class Converted(_Gathered):
    """A plan's target as a checkpoint: mappings are chained (:mod:`convkit.chain`) without a copy on disk."""

    def __init__(self, source: Checkpoint, plan: Plan) -> None:
        super().__init__(target_jobs(plan, source, None))
        self.path = source.path
        self.format = plan.target_format
        self.metadata = {}
        self.leaves = dict(plan.target_leaves)
        self._source = source

    def files(self) -> list[Path]:
        """Those of the source."""
        return self._source.files()


def target_jobs(plan: Plan, checkpoint: Checkpoint, earlier: Checkpoint | None) -> list[Job]:
    """Every tensor of the target, from the source, recipes, and the complement of an ``earlier`` conversion."""
    jobs = []
    for step in plan.bound.steps:
        pieces = [] if step.value else step.pieces()
        moved = not step.value and _is_move(step, pieces)
        for side in () if step.value else step.targets:
            mine = [piece for piece in pieces if piece.target == side.key]
            reader = checkpoint
            if fold := step.folded:
                if earlier and fold.side == "target" and side.key == fold.key:
                    jobs += _copies("target", earlier, {side.key: Leaf(side.key, side.spec)})
                    continue
                reader = Multiplied(checkpoint, fold) if fold.side == "source" else checkpoint
            if earlier and side.key in step.kept:
                jobs += _copies("target", earlier, {side.key: Leaf(side.key, side.spec)})
                continue
            if earlier and step.pad and step.pad.kept_as:
                part = step.pad.beyond(side.spec.shape)
                name = step.pad.kept_as
                mine.append(Piece(name, side.key, part.shape, 0, part.own_strides, part.offset, part.strides))
                reader = _Joined(checkpoint, earlier)
            jobs.append(Job("target", side.key, side.spec, reader, mine, step, step.sources[0].key if moved else None))
            jobs += [Job("target", name, side.spec, reader, mine, step) for name, of in step.also if of == side.key]
    jobs += _copies("target", Computed(plan.owed, _Gathered(jobs)))
    return jobs + (_copies("target", earlier, plan.restored) if earlier else [])


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
    jobs = [replace(job, digest_of=job.key) for job in _copies("complement", checkpoint, kept)]
    cropped = [_cropped_job(checkpoint, step.sources[0], step.crop) for step in plan.bound.steps if step.crop]
    return jobs + [job for job in cropped if job]


def _rounded(checkpoint: Checkpoint, plan: Plan) -> list[str]:
    """Source leaves that are shifted, and wouldn't be the same bit by bit if they were shifted back."""
    return [
        side.key
        for step in plan.bound.steps
        if step.shifted
        for side in step.sources
        if not all(_shifts_back(step, side.spec.dtype, slab) for slab in _slabs(checkpoint, side))
    ]


def _shifts_back(step: Step, dtype: str, slab: np.ndarray) -> bool:
    data = slab
    for op in (*step.ops, *(op.inverse() for op in reversed(step.ops))):
        data = op.apply(data, dtype)
    return bool((data == slab).all())


def _slabs(checkpoint: Checkpoint, side: Side) -> Iterator[np.ndarray]:
    length = SLAB // side.spec.itemsize
    for start in range(0, side.spec.size, length):
        yield checkpoint.read(side.key, start, min(side.spec.size, start + length))


def _cropped_job(checkpoint: Checkpoint, side: Side, crop: Edge) -> Job | None:
    """What is cropped of a leaf, unless it is the fill throughout."""
    part = crop.beyond(side.spec.shape)
    spec = TensorSpec(part.shape, side.spec.dtype)
    piece = Piece(side.key, crop.kept_as, part.shape, part.offset, part.strides, 0, part.own_strides)
    job = Job("complement", crop.kept_as, spec, checkpoint, [piece] if spec.size else [])
    gather, fill = Gather(job), bits_of(crop.fill, spec.dtype)
    length = SLAB // spec.itemsize
    slabs = ((start, min(spec.size, start + length)) for start in range(0, spec.size, length))
    return None if all((gather(start, stop) == fill).all() for start, stop in slabs) else job


def _copies(role: str, reader: Checkpoint, leaves: dict[str, Leaf] | None = None) -> list[Job]:
    return [
        Job(role, key, leaf.spec, reader, [_whole(key, leaf.spec)])
        for key, leaf in (reader.leaves if leaves is None else leaves).items()
        if leaf.spec is not None
    ]


def _crosswise(piece: Piece) -> bool:
    """Whether neighbours in the target lie far apart in the source: a transposition."""
    wide = [(s, t) for n, s, t in zip(piece.shape, piece.source_strides, piece.target_strides, strict=True) if n > 1]
    return bool(wide) and min(s for s, _ in wide) != wide[-1][0] and piece.shape[-1] > 1


def _dense(piece: Piece) -> int:
    """The least span of the target, from a multiple on, whose elements lie about as close in the source as all do.

    1 where rows stay rows, one layer where the matrices of stacked layers are transposed, else all of the piece.
    """
    closeness = [1.0]
    size, reach, span = 1, 1, 1
    for n, s, t in reversed([*zip(piece.shape, piece.source_strides, piece.target_strides, strict=True)]):
        size, reach, span = size * n, reach + (n - 1) * s, span + (n - 1) * t
        closeness.append(reach / size)
    unit = span
    for inner, stride in zip(reversed(closeness[:-1]), piece.target_strides, strict=True):
        if inner > _CLOSE * closeness[-1]:
            break
        unit = stride
    return unit


def _is_move(step: Step, pieces: list[Piece]) -> bool:
    """Whether the one target has the bytes of the one source."""
    if step.ops or step.pad or step.crop or step.folded or len(step.sources) != 1 or len(step.targets) != 1:
        return False
    if len(pieces) != 1:
        return step.sources[0].spec.size == 0
    return pieces[0].source_strides == pieces[0].target_strides and pieces[0].source_offset == pieces[0].target_offset


def _whole(key: str, spec: TensorSpec) -> Piece:
    return Piece(key, key, (spec.size,), 0, (1,), 0, (1,))


def _equal(checkpoint: Checkpoint, one: str, other: str) -> bool:
    spec = checkpoint.leaves[one].spec
    assert spec is not None
    length = max(1, SLAB // spec.itemsize)
    return all(
        checkpoint.read(one, start, stop).tobytes() == checkpoint.read(other, start, stop).tobytes()
        for start in range(0, spec.size, length)
        for stop in (min(spec.size, start + length),)
    )
