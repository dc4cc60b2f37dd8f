"""Check whether a repaired checkpoint equals its source, bit by bit, except where its receipt says otherwise.

The receipt says what should have changed. Both checkpoints are read to show that exactly this changed.
Then the same comparison is made with faults planted in the target, to show that it can fail.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import UNSET
from msgspec.structs import replace

from convkit.checkpoint import Checkpoint, Leaf, TensorSpec
from convkit.checkpoint.progress import Meter, Progress, unmeasured
from convkit.checkpoint.tensors import value_dtype
from convkit.checkpoint.views import Overlay
from convkit.formats import open_checkpoint
from convkit.verify.blocks import same_bits
from convkit.verify.documents import RepairReceipt, read
from convkit.verify.judged import Check
from convkit.verify.verdict import Fault, Verdict

#: elements of the largest tensor in which a fault is planted: the comparison is made once for each fault
_PLANTED = 1 << 22


@dataclass(frozen=True)
class Expected:
    """What a leaf of the target should equal: a leaf of the source, or this value."""

    source: str | None = None
    value: Any = None


def repaired(source: Path, target: Path, record: Mapping[str, Any], *, progress: Progress | None = None) -> Verdict:
    """Compare a repaired checkpoint with its source.

    ``measured`` counts the leaves compared, those that the repair changed, and those that aren't as expected.
    ``progress`` is called with the bytes compared so far and the bytes in all.

    Raises:
        ConvkitError: one of them can't be read.
    """
    check = Check("roundtrip", source, target)
    with open_checkpoint(source) as one, open_checkpoint(target) as other:
        expected = _expected(one, read(RepairReceipt, record, target))
        named = [one.leaves[wanted.source] for wanted in expected.values() if wanted.source in one.leaves]
        advance = Meter(sum(leaf.spec.nbytes for leaf in named if leaf.spec), progress)
        problems = _differing(one, other, expected, {*expected, *other.leaves}, advance)
        faults = [
            Fault(name, bool(_differing(one, spoiled, expected, keys)))
            for name, spoiled, keys in _faults(other, problems)
        ]
    changed = sum(wanted.source != key for key, wanted in expected.items())
    return check.judged(
        [f"{key}: {problem}" for key, problem in problems.items()],
        faults,
        measured={"leaves": len(expected), "changed": changed, "different": len(problems)},
        bound={"different": 0},
    )


def _expected(source: Checkpoint, record: RepairReceipt) -> dict[str, Expected]:
    """List every leaf that the target should have."""
    expected = {key: Expected(source=key) for key in source.leaves}
    for repair in record.repairs:
        if repair.key and repair.what == "tied copy":
            expected[repair.key] = Expected(source=str(repair.after))
        elif repair.key and repair.what == "last_epoch":
            expected[repair.key] = Expected(value=repair.after)
    if record.dataloader is not UNSET:
        expected = {key: wanted for key, wanted in expected.items() if key.split(".")[0] != "dataloader"}
        expected |= {key: Expected(value=value) for key, value in _flat(record.dataloader, "dataloader")}
    return expected


def _flat(state: Any, key: str) -> Iterator[tuple[str, Any]]:
    if isinstance(state, dict | list) and state:
        for name, inner in state.items() if isinstance(state, dict) else enumerate(state):
            yield from _flat(inner, f"{key}.{name}")
    else:
        yield key, state


def _differing(
    ours: Checkpoint,
    theirs: Checkpoint,
    expected: Mapping[str, Expected],
    keys: set[str],
    advance: Callable[[int], object] = unmeasured,
) -> dict[str, str]:
    """Find those of these leaves that aren't as expected, and say what is wrong with them."""
    found = {key: _difference(ours, theirs, expected.get(key), key, advance) for key in sorted(keys)}
    return {key: problem for key, problem in found.items() if problem}


def _difference(
    ours: Checkpoint, theirs: Checkpoint, wanted: Expected | None, key: str, advance: Callable[[int], object]
) -> str | None:
    if key not in theirs.leaves or wanted is None:
        return "is missing" if key not in theirs.leaves else "isn't in the source"
    leaf = theirs.leaves[key]
    if wanted.source is None:
        found = theirs.read(key, 0, 1).view(value_dtype(leaf.spec.dtype)).item() if leaf.spec else leaf.value
        same = found == wanted.value and (leaf.spec is not None or type(found) is type(wanted.value))
        return None if same else f"is {found!r}, but should be {wanted.value!r}"
    original = ours.leaves[wanted.source]
    # repr: a NaN equals itself there, and 1 isn't True
    if leaf.spec != original.spec or (leaf.spec is None and repr(leaf.value) != repr(original.value)):
        return f"differs from {wanted.source} in the source"
    if leaf.spec and not same_bits(ours, wanted.source, theirs, key, advance):
        return f"its bits differ from {wanted.source} in the source"
    return None


def _faults(target: Checkpoint, failing: Container[str]) -> Iterator[tuple[str, Overlay, set[str]]]:
    """Faults by name, with the target that has it and the leaves in question; none of them fails without the fault."""

    def planted(key: str, leaf: Leaf | None) -> Overlay:
        kept = {name: other for name, other in target.leaves.items() if name != key}
        return Overlay(target, kept if leaf is None else {**kept, key: leaf})

    sound = [leaf for leaf in target.leaves.values() if leaf.key not in failing]
    tensors = [leaf for leaf in sound if leaf.spec and 0 < leaf.spec.size <= _PLANTED]
    numbers = [leaf for leaf in sound if type(leaf.value) is int]
    for leaf in tensors[:1]:
        assert leaf.spec
        yield "one bit flipped", Overlay(target, target.leaves, {leaf.key: _flipped(target.read(leaf.key))}), {leaf.key}
        flat = TensorSpec((leaf.spec.size, 1), leaf.spec.dtype)
        yield "another shape", planted(leaf.key, replace(leaf, spec=flat)), {leaf.key}
    for leaf in numbers[:1]:
        yield "a number off by one", planted(leaf.key, replace(leaf, value=leaf.value + 1)), {leaf.key}
        yield "a number of another type", planted(leaf.key, replace(leaf, value=float(leaf.value))), {leaf.key}
    for leaf in sound[:1]:
        yield "a leaf missing", planted(leaf.key, None), {leaf.key}
    yield "a leaf too many", planted("surprise", Leaf("surprise", value=0)), {"surprise"}


def _flipped(data: np.ndarray) -> np.ndarray:
    spoiled = np.array(data)
    spoiled.view(np.uint8)[0] ^= 1
    return spoiled
