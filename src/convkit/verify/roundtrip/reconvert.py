"""Derive a plan's claims about its two sides: for each leaf, the elements that it must have.

A source leaf must equal what the target gives when the step is undone, what its recipe computes, or what the complement
kept. A target leaf that doesn't come from a source leaf must be what the plan says: another name of a leaf, a derived
leaf, or one restored from an earlier complement.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
from msgspec import Struct

from convkit.checkpoint import Checkpoint, Tensors, TensorSpec
from convkit.errors import ConvkitError
from convkit.files.receipt import json_value
from convkit.files.scratch import Scratch
from convkit.verify.blocks import Held, blocks
from convkit.verify.documents import Computed, Fold, Part, Plan, Planned, Step, replace
from convkit.verify.roundtrip.arithmetic import fill_bits, undo
from convkit.verify.roundtrip.derived import Seen, derive
from convkit.verify.roundtrip.notation import check_bijection
from convkit.verify.roundtrip.rearrange import Undone

#: a tensor in C order, block by block: 1-D, in its carrier
Blocks = Callable[[], Iterator[np.ndarray]]

#: bytes of leaves that one thread makes of the same leaf, about
_TOGETHER = 256 << 20

_REPORT = "the plan isn't one of this convkit: make it again, or report it"


class Kept(Struct, frozen=True):
    """The complement of a conversion: tensors in a file (None if there is none), values in the receipt."""

    tensors: Checkpoint | None
    values: Mapping[str, Any]


class Sides(Struct, frozen=True):
    """Both checkpoints of a conversion, with their complements.

    ``kept`` is the complement of this conversion, None if another program made it. ``earlier`` is the complement beside
    the source, of an earlier conversion in the other direction. ``scratch`` has files for what is transposed.
    """

    source: Checkpoint
    target: Checkpoint
    kept: Kept | None = None
    earlier: Kept | None = None
    scratch: Scratch | None = None


class Claim(Struct, frozen=True):
    """The claim that leaves of a checkpoint, all of them names of one tensor, hold these elements."""

    checkpoint: Tensors
    keys: tuple[str, ...]
    spec: TensorSpec
    #: where the elements come from
    origin: str
    blocks: Blocks
    #: the step that was undone: its ops and its exactness
    step: Step | None = None
    #: whether the leaf may be lost, because the conversion didn't promise to keep it
    free: bool = False
    #: which elements of a range aren't multiplied, though others of the leaf are
    unmoved: Callable[[int, int], np.ndarray] | None = None
    #: what the elements are made of, where other claims are made of the same: one thread compares all of them
    of: Held | None = None
    #: where the leaf stands on the axes in its key: those at one place are made of the same parts of ``of``
    at: tuple[tuple[str, int], ...] = ()
    #: the stored leaf that has the same elements in the same order
    moved: tuple[Tensors, str] | None = None


class ValueClaim(Struct, frozen=True):
    """The claim that a leaf which isn't a tensor has this value, as JSON."""

    checkpoint: Checkpoint
    key: str
    value: Any


def claims(plan: Plan, sides: Sides) -> Iterator[Claim]:
    """Yield every claim about tensors.

    Raises:
        ConvkitError: a step that can't be undone.
    """
    for step in plan.steps:
        if step.op != "value":
            check_bijection(step)
            yield from _of_step(step, plan, sides)
    for leaf in plan.derived:
        yield _of_derived(leaf, plan.source_leaves[leaf.key].tensor, sides)
    for leaf in plan.owed:
        spec = plan.target_leaves[leaf.key].tensor
        made = _recipe(leaf, spec, sides.target)
        yield Claim(sides.target, (leaf.key,), spec, f"recipe {leaf.recipe}", made)
    for checkpoint, kept, leaves in _complemented(plan, sides):
        for key, planned in leaves.items():
            if planned.spec is not None:
                yield _of_kept(checkpoint, key, planned.spec, kept)


def value_claims(plan: Plan, sides: Sides) -> Iterator[ValueClaim]:
    """Yield every claim about other leaves."""
    for step in plan.steps:
        if step.op == "value":
            value = value_of(sides.target, step.targets[0].key)
            yield ValueClaim(sides.source, step.sources[0].key, value)
            yield from (ValueClaim(sides.target, name, value) for name, _ in step.also)
    for key, stated in plan.target_leaves.items():
        if stated.origin == "stated":
            yield ValueClaim(sides.target, key, stated.value)
    for checkpoint, kept, leaves in _complemented(plan, sides):
        for key, leaf in leaves.items():
            if leaf.spec is None:
                yield ValueClaim(checkpoint, key, kept.values.get(key, MISSING))


#: the value of a missing leaf
MISSING: dict[str, bool] = {"missing": True}


def value_of(checkpoint: Checkpoint, key: str) -> Any:
    """The value of a leaf that isn't a tensor, as a receipt records it."""
    leaf = checkpoint.leaves.get(key)
    return MISSING if leaf is None or leaf.spec is not None else json_value(leaf.value)


def lost(plan: Plan, sides: Sides) -> dict[str, str]:
    """Find the source leaves that can't be restored, and say why."""
    reasons = {"dropped": "dropped by name"}
    if not sides.kept:
        reasons |= {"left behind": "left behind, and not kept", "folded": "multiplied, and not kept"}
    return {key: reasons[leaf.fate] for key, leaf in plan.source_leaves.items() if leaf.fate in reasons}


def misplaced(plan: Plan, sides: Sides) -> Iterator[tuple[str, str]]:
    """Yield leaves that are missing, not in the plan, or not of its shape and dtype: key and problem."""
    ends: tuple[tuple[Checkpoint, str, Mapping[str, Planned]], ...] = (
        (sides.source, "source", plan.source_leaves),
        (sides.target, "target", plan.target_leaves),
    )
    for checkpoint, side, leaves in ends:
        planned = {key: described(leaf.spec) for key, leaf in leaves.items()}
        yield from ((key, f"is missing in the {side}") for key in planned if key not in checkpoint.leaves)
        for key, leaf in checkpoint.leaves.items():
            found = described(leaf.spec)
            if key not in planned:
                yield key, f"is in the {side}, but not in the plan"
            elif found != planned[key]:
                yield key, f"is {found} in the {side}, {planned[key]} in the plan"


def overfilled(plan: Plan, sides: Sides) -> Iterator[tuple[str, str]]:
    """Yield target leaves whose padding differs from the plan: key and problem."""
    for step in plan.steps:
        for key in [side.key for side in step.targets]:
            leaf, spec, pad = sides.target.leaves.get(key), plan.target_leaves[key].spec, step.pad
            if pad is None or spec is None or leaf is None or leaf.spec != spec:
                continue
            beyond = _beyond(sides.target, key, spec, pad.axis % len(spec.shape), pad.keep)
            if name := pad.kept_as:
                try:
                    held = [*_held(sides.earlier, name, TensorSpec(beyond.shape, spec.dtype))]
                    expected, what = np.concatenate(held).reshape(beyond.shape), f"{name} of the complement"
                except ConvkitError as error:
                    yield key, f"can't be compared: {error}"
                    continue
            else:
                before = plan.source_leaves[step.sources[0].key].tensor.dtype
                expected = fill_bits(pad.fill, before, step.ops, spec.dtype)
                what = f"{pad.fill:g}"
            wrong = np.count_nonzero(beyond != expected)
            if wrong:
                yield key, f"{wrong} elements beyond {pad.keep} on axis {pad.axis} aren't {what}"


def _beyond(checkpoint: Checkpoint, key: str, spec: TensorSpec, axis: int, keep: int) -> np.ndarray:
    """The elements of a tensor from an index of an axis on; rows are read alone."""
    if axis == 0:
        return checkpoint.read(key, keep * math.prod(spec.shape[1:])).reshape(-1, *spec.shape[1:])
    return checkpoint.read(key).reshape(spec.shape)[(slice(None),) * axis + (slice(keep, None),)]


def stored(checkpoint: Checkpoint, key: str, spec: TensorSpec) -> Blocks:
    """A tensor as a checkpoint holds it; when it is read, it must have this shape and dtype."""

    def read() -> Iterator[np.ndarray]:
        if checkpoint.spec(key) != spec:
            raise ConvkitError("is of another shape or dtype", path=checkpoint.path, key=key, remedy="convert again")
        yield from blocks(checkpoint, key)

    return read


def _of_step(step: Step, plan: Plan, sides: Sides) -> Iterator[Claim]:
    targets = ", ".join(target.key for target in step.targets)
    held, nbytes, before = None, 0, None
    for side in sorted(step.sources, key=_places):
        key = side.key
        names = [name for name, of in step.same if of == key]
        spec = plan.source_leaves[key].tensor
        if held is None or (nbytes > _TOGETHER and _places(side) != before):
            held, nbytes = _targets(step, sides), 0
        nbytes, before = nbytes + spec.nbytes, _places(side)
        undone = partial(_undone, step, key, spec, sides, held)  # a closure takes three times as much memory
        if step.ops or step.folded:  # tied leaves are equal, not only within a bound of the target's
            for name in names:
                yield Claim(sides.source, (name,), spec, key, stored(sides.source, key, spec))
            names = []
        if (fold := _folded(step, "source")) and fold.key == key:
            seen = Seen(sides.source, fold)
            yield Claim(seen, (key,), spec, targets, undone, step, unmoved=_unmoved(seen))
            if sides.kept:
                yield _of_kept(sides.source, key, spec, sides.kept)
        else:
            own = step if _folded(step, "target") else replace(step, folded=None)
            moved = (sides.target, step.targets[0].key) if _is_move(step) else None
            yield Claim(sides.source, (key, *names), spec, targets, undone, own, of=held, at=before, moved=moved)
            if step.ops and sides.kept and sides.kept.tensors and key in sides.kept.tensors.leaves:
                yield _of_kept(sides.source, key, spec, sides.kept)
    for name, of in step.also:
        spec = plan.target_leaves[of].tensor
        yield Claim(sides.target, (name,), spec, of, stored(sides.target, of, spec))


def _places(side: Part) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(side.at.items()))


def _is_move(step: Step) -> bool:
    """Whether the step has one source and one target with the same elements in the same order."""
    if step.ops or step.pad or step.crop or step.folded or len(step.sources) != 1 or len(step.targets) != 1:
        return False
    source, target = step.sources[0], step.targets[0]
    return (source.axes, source.at) == (target.axes, target.at)


def _targets(step: Step, sides: Sides) -> Held:
    """The target, as the leaves of a step are made of it."""
    fold = _folded(step, "target")
    return Held(Seen(sides.target, fold) if fold else sides.target)


def _folded(step: Step, side: str) -> Fold | None:
    """What a step multiplies on this side."""
    return step.folded if step.folded and step.folded.side == side else None


def _unmoved(seen: Seen) -> Callable[[int, int], np.ndarray]:
    return lambda start, stop: seen.factors()(start, stop) == 1.0


def _undone(step: Step, key: str, spec: TensorSpec, sides: Sides, target: Tensors) -> Iterator[np.ndarray]:
    made = sides.target.spec(step.targets[0].key).dtype
    fill = fill_bits(step.crop.fill, spec.dtype) if step.crop else 0
    restored = partial(undo, ops=step.ops, source=spec.dtype, target=made)
    kept = sides.kept.tensors if sides.kept else None
    undone = Undone(step, key, spec, target, restored, fill=fill, kept=kept, scratch=sides.scratch)
    yield from undone.blocks()


def _of_derived(leaf: Computed, spec: TensorSpec, sides: Sides) -> Claim:
    """The elements that the recipe computes, or those that the complement kept instead."""
    key, kept = leaf.key, sides.kept
    if kept and kept.tensors and key in kept.tensors.leaves:
        return _of_kept(sides.source, key, spec, kept)
    made = _recipe(leaf, spec, sides.source)
    return Claim(sides.source, (key,), spec, f"recipe {leaf.recipe}", made, free=kept is None)


def _recipe(leaf: Computed, spec: TensorSpec, beside: Checkpoint) -> Blocks:
    def made_again() -> Iterator[np.ndarray]:
        made = derive(leaf.recipe, leaf.arguments, spec, leaf.of, beside)
        if made is None:
            raise ConvkitError(f"no recipe {leaf.recipe!r} gives a tensor of this shape", remedy=_REPORT)
        yield made

    return made_again


def _complemented(plan: Plan, sides: Sides) -> Iterator[tuple[Checkpoint, Kept, Mapping[str, Planned]]]:
    """The leaves of each side that a complement covers. A missing complement holds nothing."""
    if sides.kept:
        behind = {key: leaf for key, leaf in plan.source_leaves.items() if leaf.fate == "left behind"}
        yield sides.source, sides.kept, behind
    restored = {key: leaf for key, leaf in plan.target_leaves.items() if leaf.origin == "restored"}
    yield sides.target, sides.earlier or Kept(None, {}), restored


def _of_kept(checkpoint: Checkpoint, key: str, spec: TensorSpec, kept: Kept) -> Claim:
    return Claim(checkpoint, (key,), spec, "the complement", partial(_held, kept, key, spec))


def _held(kept: Kept | None, key: str, spec: TensorSpec) -> Iterator[np.ndarray]:
    """A tensor of a complement, which must be there when it is read."""
    return stored(_tensors(kept), key, spec)()


def _tensors(kept: Kept | None) -> Checkpoint:
    if kept is None or kept.tensors is None:
        raise ConvkitError("no complement holds it", remedy="put the complement back beside its checkpoint")
    return kept.tensors


def described(spec: TensorSpec | None) -> str:
    """Describe a leaf."""
    return "a value" if spec is None else f"{spec.dtype}{list(spec.shape)}"
