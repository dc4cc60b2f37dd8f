"""Plant faults in a conversion, in memory, to see whether the round trip finds them.

Each is tried rule by rule, the smallest leaves first, until it changes something: permuting equal elements, for
example, changes nothing. It is planted in the leaves of one or two steps; everything else is read from the checkpoint.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Container, Iterator, Mapping
from functools import cached_property

import numpy as np
from msgspec import Struct, field
from msgspec.structs import replace

from convkit.checkpoint import Checkpoint, TensorSpec
from convkit.checkpoint.digests import BlockDigests, combine
from convkit.checkpoint.tensors import carrier, value_dtype
from convkit.checkpoint.views import Overlay
from convkit.verify.blocks import blocks
from convkit.verify.documents import Part, Plan, Planned, Step
from convkit.verify.documents import replace as altered_part
from convkit.verify.roundtrip.arithmetic import bound
from convkit.verify.roundtrip.notation import multiplied, read_axes, shape_of
from convkit.verify.roundtrip.rearrange import Undone
from convkit.verify.verdict import Fault

#: bytes of the largest leaf in which a fault is planted
LIMIT = 16 << 20
#: by which it is seen whether two leaves are alike
_DIGEST = "xxh3-128"

#: finds the problems of a plan, a source and a target
Check = Callable[[Plan, Checkpoint, Checkpoint], list[str]]

#: other elements by key; None if the leaf is gone
Changes = Mapping[str, "np.ndarray | None"]

#: a dtype with less precision, for each dtype that may be cast down
_LOWER = {"float64": "float32", "float32": "bfloat16", "float16": "float8_e4m3fn", "bfloat16": "float8_e4m3fn"}


def plant(
    plan: Plan, source: Checkpoint, target: Checkpoint, failing: Collection[str], check: Check
) -> tuple[Fault, ...]:
    """Plant every fault that applies, one at a time, in leaves that don't fail already; ``check`` must find it."""
    sound = [step for step in plan.steps if step.op != "value" and _sound(step, plan, failing)]
    sound.sort(key=lambda step: (bound(step) > 0, _largest(step, plan)))
    # one step of each kind: a rule may cover both weights and biases
    kinds = {(step.rule, step.sources[0].axes): step for step in reversed(sound)}
    planted = []
    for name, fault in FAULTS.items():
        cases = (Case(plan, (step, *_alike(step, sound, plan)), source, target) for step in reversed(kinds.values()))
        case = next((altered for case in cases if (altered := fault(case)) is not None), None)
        if case is not None:
            problems = check(case.part, case.side("source"), case.side("target"))
            planted.append(Fault(name, bool(problems), {"leaf": case.changed, "problems": len(problems)}))
        del case  # before more is read
    return (*planted, *_recomputed(plan, source, target, failing, check))


def _recomputed(
    plan: Plan, source: Checkpoint, target: Checkpoint, failing: Collection[str], check: Check
) -> Iterator[Fault]:
    """Flip a bit in a leaf of the target that is computed from others."""
    for leaf in plan.owed:
        key, names = leaf.key, (leaf.key, *leaf.of)
        if any(name in failing or name not in plan.target_leaves for name in names):
            continue
        planned = {name: plan.target_leaves[name] for name in names}
        if not all(entry.spec and 0 < entry.spec.nbytes <= LIMIT for entry in planned.values()):
            continue
        flipped = np.array(target.read(key))
        flipped.view(np.uint8)[0] ^= 1
        part = altered_part(plan, steps=(), derived=(), owed=(leaf,), source_leaves={}, target_leaves=planned)
        problems = check(part, Overlay(source, {}), changed(target, planned, {key: flipped}))
        yield Fault("a computed leaf changed", bool(problems), {"leaf": key, "problems": len(problems)})
        return


def changed(checkpoint: Checkpoint, keys: Container[str], changes: Changes) -> Overlay:
    """Leaves of a checkpoint, some of them with other elements or gone."""
    gone = {key for key, array in changes.items() if array is None}
    leaves = {key: leaf for key, leaf in checkpoint.leaves.items() if key in keys and key not in gone}
    return Overlay(checkpoint, leaves, {key: array for key, array in changes.items() if array is not None})


class Case(Struct, frozen=True, dict=True):
    """One or two steps of a plan, both checkpoints, and what is changed in them."""

    plan: Plan
    steps: tuple[Step, ...]
    source: Checkpoint
    target: Checkpoint
    changes: Mapping[str, Changes] = field(default_factory=dict)

    @property
    def step(self) -> Step:
        """The step that a fault is planted in."""
        return self.steps[0]

    @property
    def key(self) -> str:
        """Its first target leaf."""
        return self.step.targets[0].key

    @property
    def changed(self) -> str:
        """The leaf that is changed or read differently."""
        return next((key for changes in self.changes.values() for key in changes), self.key)

    @property
    def dtype(self) -> str:
        """The dtype of the first target leaf."""
        return self.plan.target_leaves[self.key].tensor.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the first target leaf."""
        return self.plan.target_leaves[self.key].tensor.shape

    @cached_property
    def array(self) -> np.ndarray:
        """The elements of the first target leaf."""
        return self.elements(self.key)

    @cached_property
    def part(self) -> Plan:
        """The plan, reduced to these steps."""
        leaves = {f"{side}_leaves": {key: planned(self.plan, side)[key] for key in self._keys(side)} for side in _ENDS}
        return altered_part(self.plan, **leaves, steps=self.steps, derived=(), owed=())

    def side(self, name: str) -> Overlay:
        """The leaves of one side, as changed."""
        checkpoint = {"source": self.source, "target": self.target}[name]
        return changed(checkpoint, self._keys(name), self.changes.get(name, {}))

    def elements(self, key: str, side: str = "target") -> np.ndarray:
        """The elements of a leaf, as they are stored, in its shape."""
        checkpoint = {"source": self.source, "target": self.target}[side]
        return checkpoint.read(key).reshape(planned(self.plan, side)[key].tensor.shape)

    def with_other(self, key: str, array: np.ndarray, side: str = "target") -> Case | None:
        """The case with other elements in a leaf; None if these are the same."""
        other, done = np.asarray(array, order="C"), 0
        for block in blocks({"source": self.source, "target": self.target}[side], key):
            if not np.array_equal(block, other.reshape(-1)[done : done + block.size]):
                return replace(self, changes={side: {key: other}})
            done += block.size
        return None

    def _keys(self, side: str) -> list[str]:
        return [key for step in self.steps for key in _keys(step, side)]


_ENDS = ("source", "target")


# --- the faults: each gives the case with the fault in it, or None if it doesn't apply ------------------------------


def _flipped(case: Case) -> Case | None:
    return case.with_other(case.key, _with_flipped_bit(case.array, case))


def _swapped(case: Case) -> Case | None:
    """Swap the leaf with another one of the step, or of the other step."""
    spec = case.plan.target_leaves[case.key].spec
    for other in [leaf.key for step in case.steps for leaf in step.targets][1:]:
        if case.plan.target_leaves[other].spec == spec:
            swapped = case.with_other(case.key, case.elements(other))
            if swapped:
                return replace(swapped, changes={"target": {**swapped.changes["target"], other: case.array}})
    return None


def _unpermuted(case: Case) -> Case | None:
    """Keep the source's elements in their order, though they should have been rearranged."""
    (source, *others), (target, *more) = case.step.sources, case.step.targets
    if others or more or case.step.ops or case.step.pad or case.step.crop or case.step.folded:
        return None
    if list(multiplied(read_axes(source.axes))) == list(multiplied(read_axes(target.axes))):
        return None
    return case.with_other(case.key, case.elements(source.key, "source").reshape(case.shape))


def _transposed(case: Case) -> Case | None:
    shape = case.shape
    return case.with_other(case.key, case.array.T) if len(shape) == 2 and shape[0] == shape[1] else None


def _shifted(case: Case) -> Case | None:
    return case.with_other(case.key, np.roll(case.array, 1, 0)) if case.shape else None


def _drifted_copy(case: Case) -> Case | None:
    """Give another name of a leaf different elements."""
    for side in _ENDS:
        for name, _ in _further(case.step, side):
            return case.with_other(name, _with_flipped_bit(case.elements(name, side), case), side)
    return None


def _refolded(case: Case) -> Case | None:
    """Take the factors from a leaf other than the one that was folded."""
    fold = case.step.folded
    if not (fold and fold.by):
        return None
    array = case.elements(fold.by, "source")
    dtype = case.plan.source_leaves[fold.by].tensor.dtype
    with np.errstate(all="ignore"):
        changed = (array.view(value_dtype(dtype)).astype(np.float64) + 1).astype(value_dtype(dtype))
    return case.with_other(fold.by, changed.view(carrier(dtype)), "source")


#: factors that are nearer to each other give products within the bound, in bfloat16
_NEAR = 0.02


def _factor(change: Callable[[float], float]) -> Callable[[Case], Case | None]:
    """The fault that the leaf is multiplied by a number other than the right one."""

    def planted(case: Case) -> Case | None:
        fold = case.step.folded
        if not fold or fold.by:
            return None
        factor = fold.arguments["factor"]
        if math.isclose(wrong := change(factor), factor, rel_tol=_NEAR):
            return None
        other = altered_part(fold, arguments={"factor": wrong})
        return replace(case, steps=(altered_part(case.step, folded=other), *case.steps[1:]))

    return planted


def _missing(case: Case) -> Case | None:
    return replace(case, changes={"target": {case.key: None}})


def _cast_down(case: Case) -> Case | None:
    if case.dtype not in _LOWER or case.step.ops:
        return None
    values = case.array.view(value_dtype(case.dtype))
    with np.errstate(all="ignore"):
        rounded = values.astype(value_dtype(_LOWER[case.dtype])).astype(values.dtype)
    return case.with_other(case.key, rounded.view(carrier(case.dtype)))


def _other_heads(case: Case) -> Case | None:
    """Use other sizes with the same product, such as more and smaller heads."""
    for sizes in _other_sizes(case.step):
        step = altered_part(case.step, sizes=sizes)
        if any(_undone(case, case.step, leaf.key) != _undone(case, step, leaf.key) for leaf in step.sources):
            return replace(case, steps=(step, *case.steps[1:]))
    return None


#: every fault by name
FAULTS: dict[str, Callable[[Case], Case | None]] = {
    "one flipped bit": _flipped,
    "two leaves swapped": _swapped,
    "rows not permuted": _unpermuted,
    "a square transposed": _transposed,
    "rows shifted by one": _shifted,
    "a tied copy changed": _drifted_copy,
    "multiplied by another leaf": _refolded,
    "multiplied by another number": _factor(lambda factor: 2 * factor + 1),
    "not multiplied": _factor(lambda factor: 1.0),
    "multiplied twice": _factor(lambda factor: factor**2),
    "a leaf missing": _missing,
    "a leaf cast down": _cast_down,
    "heads counted wrongly": _other_heads,
}


def _with_flipped_bit(array: np.ndarray, case: Case) -> np.ndarray:
    """The array with one bit flipped: the lowest in the middle, or the sign of the largest value if values may move."""
    flipped = np.array(array)
    raw = flipped.reshape(-1).view(np.uint8).reshape(-1, array.itemsize)
    if case.step.ops or case.step.folded:
        with np.errstate(all="ignore"):
            values = flipped.reshape(-1).view(value_dtype(case.dtype)).astype(np.float64)
        values = np.nan_to_num(values, posinf=0, neginf=0)
        raw[np.abs(values).argmax(), -1] ^= 0x80
    else:
        raw[len(raw) // 2, 0] ^= 1
    return flipped


def _other_sizes(step: Step) -> Iterator[dict[str, int]]:
    """Find other sizes that give every leaf the same shape."""
    sizes, sides = step.sizes, (*step.sources, *step.targets)
    axes = [read_axes(leaf.axes) for leaf in sides]
    inside = [name for name in sizes if not any(name in leaf.at for leaf in sides)]
    for less in inside:
        for more in inside:
            for factor in (2, 3, 5):
                if less != more and sizes[less] % factor == 0:
                    changed = {**sizes, less: sizes[less] // factor, more: sizes[more] * factor}
                    if all(shape_of(leaf, changed) == shape_of(leaf, sizes) for leaf in axes):
                        yield changed


def _undone(case: Case, step: Step, key: str) -> str:
    """A digest of the source leaf that a step gives back."""
    digests = BlockDigests(_DIGEST)
    for block in Undone(step, key, case.plan.source_leaves[key].tensor, case.target, lambda part: part).blocks():
        digests.update(block)
    return combine(_DIGEST, digests.blocks())


# --- where to plant them ----------------------------------------------------------------------------------------------


def _sound(step: Step, plan: Plan, failing: Collection[str]) -> bool:
    """Whether no leaf of the step is large, empty, failing already, or from a complement."""
    if step.folded and step.folded.side == "target":
        return False
    for side in _ENDS:
        if any(key in failing or key not in planned(plan, side) for key in _keys(step, side)):
            return False
    return min(spec.size for spec in _specs(step, plan)) > 0 and _largest(step, plan) <= LIMIT


def _keys(step: Step, side: str) -> list[str]:
    fold = step.folded
    by = [fold.by] if fold and fold.by and fold.side == side else []
    return [*(leaf.key for leaf in _parts(step, side)), *(name for name, _ in _further(step, side)), *by]


def _parts(step: Step, side: str) -> tuple[Part, ...]:
    return step.sources if side == "source" else step.targets


def _further(step: Step, side: str) -> tuple[tuple[str, str], ...]:
    """Further names of a side's leaves, each with the leaf's name."""
    return step.same if side == "source" else step.also


def planned(plan: Plan, side: str) -> Mapping[str, Planned]:
    """The leaves of a side."""
    return plan.source_leaves if side == "source" else plan.target_leaves


def _specs(step: Step, plan: Plan) -> list[TensorSpec]:
    return [planned(plan, side)[leaf.key].tensor for side in _ENDS for leaf in _parts(step, side)]


def _largest(step: Step, plan: Plan) -> int:
    return max(spec.nbytes for spec in _specs(step, plan))


def _alike(step: Step, others: list[Step], plan: Plan) -> list[Step]:
    """Find another step whose first target has the same shape and dtype."""
    first = plan.target_leaves[step.targets[0].key].spec
    for other in others:
        if other is not step and plan.target_leaves[other.targets[0].key].spec == first:
            return [other]
    return []
