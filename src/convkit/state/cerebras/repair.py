"""Finds what must be repaired in a state so that Cerebras releases since 2.0 can resume from it.

The three repairs of ModelZoo release 2.0.2, ``compat/fix_checkpoint_spec.py``: a structure of existing classes, the
tied copies that old releases left out, and schedulers at the training's step. Nothing is written here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from msgspec.structs import replace

from convkit.checkpoint import Checkpoint, Leaf
from convkit.checkpoint.tensors import value_dtype
from convkit.errors import ConvkitError
from convkit.state.cerebras.tied_copies import stored_copy

#: cerebras.pytorch 2.10 can't load formats before this one: it lacks their flags, or requires a version
LOADABLE = 0.3

_STEP = "global_step"
_EPOCH = "last_epoch"
_LISTS = ("_schedulers", "schedulers")
_MILESTONES = ("_milestones", "milestones")


@dataclass(frozen=True, slots=True)
class Repair:
    """One repair: ``what`` (format, structure, tied copy, last_epoch), where, and why."""

    what: str
    key: str
    before: Any
    after: Any
    why: str


@dataclass(frozen=True, slots=True)
class Repaired:
    """The repaired leaves, the changes, the numbers to write into tensors, and what can't be determined."""

    leaves: dict[str, Leaf]
    repairs: tuple[Repair, ...]
    numbers: Mapping[str, int]
    warnings: tuple[str, ...]


def repaired(checkpoint: Checkpoint) -> Repaired:
    """Find what is wrong with the state of an opened ``cerebras-h5`` checkpoint.

    Raises:
        ConvkitError: the milestones contradict the schedulers or each other, or the step isn't a step.
    """
    leaves = dict(checkpoint.leaves)
    repairs = [*_format(checkpoint), *_structure(checkpoint)]
    for key in checkpoint.metadata["left_out"]:
        repairs.append(_tie(key, leaves[key].same_as or ""))
    tensors = {key for key, leaf in leaves.items() if leaf.spec}
    for key, leaf in leaves.items():
        # a later release that loaded and saved such a file stored a None there
        copy = stored_copy(key, tensors) if leaf.spec is None and leaf.value is None else None
        if copy:
            leaves[key] = Leaf(key, leaves[copy].spec, same_as=leaves[copy].same_as or copy)
            repairs.append(_tie(key, copy))
    epochs, numbers, warnings = scheduler_steps(checkpoint)
    for repair in epochs:
        if leaves[repair.key].spec is None:
            leaves[repair.key] = replace(leaves[repair.key], value=repair.after)
    return Repaired(leaves, (*repairs, *epochs), numbers, warnings)


def _format(checkpoint: Checkpoint) -> list[Repair]:
    version = checkpoint.metadata["version"]
    if version >= LOADABLE:
        return []
    why = f"release {checkpoint.metadata['cstorch_version']} wrote it, and cerebras.pytorch 2.10 doesn't load it"
    return [Repair("format", "", version, 0.5, why)]


def _structure(checkpoint: Checkpoint) -> list[Repair]:
    why = "no release after 1.7 has that class"
    return [
        Repair("structure", key, "TensorScalarDict", "dict", why) for key in checkpoint.metadata["tensor_scalar_dicts"]
    ]


def _tie(key: str, copy: str) -> Repair:
    return Repair("tied copy", key, None, copy, f"left out when it was saved: it is the same tensor as {copy}")


def scheduler_steps(checkpoint: Checkpoint) -> tuple[list[Repair], dict[str, int], tuple[str, ...]]:
    """The schedulers that aren't at the training's step, which of these numbers are in tensors, and remarks.

    Raises:
        ConvkitError: the milestones contradict the schedulers or each other, or the step isn't a step.
    """
    wanted = [key for key in checkpoint.leaves if "lr_scheduler" in key and key.rpartition(".")[2] == _EPOCH]
    if not wanted:
        return [], {}, ()
    if _STEP not in checkpoint.leaves:
        return [], {}, (f"{_STEP} is missing, so the schedulers' steps can't be determined: left as they are",)
    step = _number(checkpoint, _STEP)
    repairs, numbers = [], {}
    for key in wanted:
        after, why = _epoch(checkpoint, key, step)
        before = _stored(checkpoint, key)
        if before != after:
            repairs.append(Repair(_EPOCH, key, before, after, why))
            if checkpoint.leaves[key].spec:
                numbers[key] = after
    return repairs, numbers, ()


def _epoch(checkpoint: Checkpoint, key: str, step: int) -> tuple[int, str]:
    """The step, minus the milestones at which the enclosing schedulers switched to this one."""
    parts = key.split(".")
    epoch, why = step, f"{_STEP} is {step}"
    for at, (name, number) in enumerate(pairwise(parts)):
        if name not in _LISTS or not number.isdecimal():
            continue
        milestones = _milestones(checkpoint, ".".join(parts[:at]), name)
        if milestones and int(number) > 0:
            begun = milestones[int(number) - 1]
            epoch = max(epoch - begun, 0)
            why += f", and it begins at {begun}"
    return epoch, why


def _milestones(checkpoint: Checkpoint, owner: str, schedulers: str) -> list[int]:
    """The steps at which a sequence of schedulers switches to the next one; empty if all run at once."""
    found = {
        int(number): _number(checkpoint, key)
        for key in checkpoint.leaves
        for above, _, number in [key.rpartition(".")]
        if number.isdecimal() and above in [f"{owner}.{name}" for name in _MILESTONES]
    }
    milestones = [found[number] for number in sorted(found)]
    prefix = f"{owner}.{schedulers}."
    count = len({key.removeprefix(prefix).split(".")[0] for key in checkpoint.leaves if key.startswith(prefix)})
    problem = None
    if milestones != sorted(milestones):
        problem = f"has the milestones {milestones}, which don't go up as {_STEP} does"
    elif milestones and len(milestones) != count - 1:
        problem = f"has {len(milestones)} milestones between {count} schedulers"
    if problem:
        raise ConvkitError(
            problem, path=checkpoint.path, key=owner, remedy="correct them, or take an earlier checkpoint"
        )
    return milestones


def _number(checkpoint: Checkpoint, key: str) -> int:
    """A number of steps.

    Raises:
        ConvkitError: something else.
    """
    value = _stored(checkpoint, key)
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1 or value < 0:
        raise ConvkitError(
            f"isn't a number of steps: {value!r}",
            path=checkpoint.path,
            key=key,
            remedy="correct it, or take an earlier checkpoint",
        )
    return int(value)


def _stored(checkpoint: Checkpoint, key: str) -> Any:
    """A leaf's value, even if it is stored as a tensor of one element."""
    leaf = checkpoint.leaves[key]
    if leaf.spec is None or leaf.spec.size != 1:
        return leaf.value
    return checkpoint.read(key).view(value_dtype(leaf.spec.dtype)).item()
