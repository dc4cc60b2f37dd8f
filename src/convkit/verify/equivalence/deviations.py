"""Deviations that a conversion declares: the rest is proved under them, and the size of each is measured apart.

A deviation names a field of a config, what it says, and what the other side takes it as. With that value in its place
the models must be the same, within the same bound and with the same planted faults as any other two. How far
the model is from itself with that value is the deviation's own size, which no bound applies to.

The receipt of the target declares deviations. They count only for the checkpoints that it is about: the plan in it must
have its digest, the target's config must be the planned one, and the source's config must say what it said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec.structs import asdict

from convkit.errors import ConvkitError
from convkit.oracles.opening import Opened, value_at
from convkit.verify.configs import other_config
from convkit.verify.documents import Described, Deviation, Receipt, read
from convkit.verify.equivalence.agreement import Figure, summary
from convkit.verify.equivalence.lanes import Comparison
from convkit.verify.files import edited_plan
from convkit.verify.verdict import Deviated

if TYPE_CHECKING:
    from torch import Tensor

    from convkit.oracles.oracle import Oracle

_NOT_COUNTED = "the receipt declares deviations, which don't count, because it is about other checkpoints"
_IN_NO_FILE = "no field of the source's config says the same, and the config that says it is in no file"


@dataclass(frozen=True)
class Basis:
    """The models to compare: those of the checkpoints, with the values that deviations are taken as.

    Attributes:
        source: the model of the source.
        target: the model of the target.
        taken: the deviations under which these models must be the same.
        unproved: deviations under which nothing can be compared, with the reason.
        refused: why the receipt's deviations don't count; empty if they do, or if there are none.
    """

    source: Oracle
    target: Oracle
    taken: tuple[Deviation, ...] = ()
    unproved: tuple[tuple[Deviation, str], ...] = ()
    refused: str = ""


def basis_of(
    ours: Opened, theirs: Opened, receipt: dict[str, Any] | None, plan: Described | None, target_config: Path | None
) -> Basis:
    """The models to compare, under the deviations that the target's receipt declares."""
    plain = Basis(ours.oracle, theirs.oracle)
    if receipt is None or plan is None or not plan.deviations:
        return plain
    others = _others(ours, theirs, read(Receipt, receipt, theirs.path), plan, target_config)
    if other := next(others, None):
        return replace(plain, refused=f"{_NOT_COUNTED}: {other}")
    taken = tuple(one for one in plan.deviations if one.side != "between")
    unproved = tuple((one, _IN_NO_FILE) for one in plan.deviations if one.side == "between")
    try:
        source, target = (
            side.taking({one.field: one.taken_as for one in taken if one.side == name})
            for name, side in (("source", ours), ("target", theirs))
        )
    except ConvkitError as error:
        return replace(plain, unproved=(*((one, error.problem) for one in taken), *unproved))
    return Basis(source, target, taken, unproved)


def _others(
    ours: Opened, theirs: Opened, receipt: Receipt, plan: Described, target_config: Path | None
) -> Iterator[str]:
    """What shows that the checkpoints aren't those of the receipt."""
    yield from edited_plan(receipt)
    yield from other_config(theirs.path, plan.target, target_config)
    for one in plan.deviations:
        if one.side == "source":
            have, said = (value_at(config, one.field) for config in (ours.config, plan.source.config))
            if have != said:
                yield f"the source's {one.field} is {have!r}, the receipt says {said!r}"


def lanes_of(basis: Basis, ours: Opened, theirs: Opened) -> dict[str, tuple[str, Oracle]]:
    """The models to run beside those of the basis, by name, each with its side: as they are, and with one deviation."""
    if not basis.taken:
        return {}
    found = {"source as it is": ("source", ours.oracle), "target as it is": ("target", theirs.oracle)}
    for n, one in enumerate(basis.taken):
        side, model = (ours, basis.source) if one.side == "source" else (theirs, basis.target)
        if sum(other.side == one.side for other in basis.taken) > 1:
            model = side.taking({one.field: one.taken_as})
        found[f"deviation {n}"] = (one.side, model)
    return found


def comparisons_of(basis: Basis) -> list[Comparison]:
    """The size of all deviations together, and of each by itself."""
    if not basis.taken:
        return []
    each = [Comparison(f"deviation {n}", f"{one.side} as it is", f"deviation {n}") for n, one in enumerate(basis.taken)]
    return [Comparison("deviations", "source as it is", "target as it is"), *each]


def measured(basis: Basis, figures: Mapping[str, Sequence[Sequence[Figure]]]) -> list[Deviated]:
    """The deviations with the size of each by itself: of the inputs, the one on which it is largest counts."""
    sized = []
    for n, one in enumerate(basis.taken):
        inputs = [summary(found) for found in figures.get(f"deviation {n}", ())]
        largest = max(inputs, key=lambda found: found.get("max_rel", 0.0), default={})
        sized.append(Deviated(**asdict(one), measured=largest))
    return sized + [Deviated(**asdict(one)) for one, _ in basis.unproved]


def shorter(switches_at: int, probe: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    """The beginning of the input for a model that computes inputs beyond a length in another way: that length of it."""
    if not switches_at or not switches_at < probe["input_ids"].shape[1]:
        return []
    return [{name: value[:, :switches_at] for name, value in probe.items()}]


def not_shown(basis: Basis) -> list[str]:
    """Why the check can't show that the rest is right; a line for each deviation that can't be compared."""
    return [
        f"{one.field} is {one.value!r} and taken as {one.taken_as!r}, but what else differs can't be shown: {why}"
        for one, why in basis.unproved
    ]
