"""Compare what no stage shows on this input: position limits, heads of one side, rows that the input doesn't use."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from convkit.oracles.windows import Slice

if TYPE_CHECKING:
    from torch import Tensor

    from convkit.verify.equivalence.lanes import Lane, Models
    from convkit.verify.equivalence.record import Record

#: how the roles of tables end of which an input uses some rows: those of its ids, or of its positions
_OF_IDS, _OF_POSITIONS = ["embedding", "weight"], ["positions", "weight"]
#: elements of a table that are compared at once
_BLOCK = 4 << 20
_HEADS = ("lm", "mlm", "nsp", "classifier")


@dataclass
class Beyond:
    """What was found, a line each: what is wrong, what couldn't be shown, and what is only worth saying."""

    problems: list[str] = field(default_factory=list)
    unshown: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, other: Beyond) -> None:
        """Add what somebody else has found."""
        self.problems += other.problems
        self.unshown += other.unshown
        self.notes += other.notes


def look_beyond(models: Models, record: Record, asked: int | None, found: Beyond) -> None:
    """Compare what no tensor shows: ``asked`` are the positions that the input should have."""
    _limits(models, found, asked)
    for name in dict.fromkeys(record.only_in_target):
        if name in _HEADS and not models.target.oracle.facts.tied:
            found.unshown.append(f"{name} of the target isn't compared: the source has no tensors for it")


def compare_rows(models: Models, used: Tensor, found: Beyond) -> None:
    """Compare the rows of tables: ``used`` are the ids in the input."""
    for end, rows in ((_OF_IDS, used), (_OF_POSITIONS, None)):
        for role in models.source.oracle.roles:
            if role.split(".")[-2:] == end and role in models.target.oracle.roles:
                _rows(models, role, rows, found)


def _limits(models: Models, found: Beyond, asked: int | None) -> None:
    """Two frameworks may say different limits of one model; one that shortens the input hides something."""
    ours, theirs = (lane.oracle.facts.positions for lane in (models.source, models.target))
    if ours == theirs:
        return
    said = f"the source allows {ours} positions, the target {theirs}"
    shorter = models.lengths[0] == min(ours, theirs) and models.lengths[0] < (asked or max(ours, theirs))
    (found.unshown if shorter else found.notes).append(said + (", so the input is too short" if shorter else ""))


def _rows(models: Models, role: str, used: Tensor | None, found: Beyond) -> None:
    """Tables that have the same rows where the input uses them must have the same rows everywhere."""
    source, target = models.source, models.target
    ours, theirs = (lane.oracle.part_shape(role) for lane in (source, target))
    what = role.removesuffix(".weight")
    if ours != theirs:
        found.problems.append(f"{what} has {ours[0]} rows in the source, and {theirs[0]} in the target")
        return
    seen = set(range(models.lengths[0])) if used is None else set(used.tolist())
    other = [*_differing(source, target, role, ours)]
    unused = [row for row in other if row not in seen]
    if len(unused) < len(other):
        found.notes.append(f"of {what}, the rows that the input doesn't use weren't compared: it isn't stored alike")
    elif unused:
        found.problems.append(f"{what}: {len(unused)} rows differ that the input doesn't use, the first is {unused[0]}")


def _differing(source: Lane, target: Lane, role: str, shape: tuple[int, ...]) -> Iterator[int]:
    each = max(1, _BLOCK // shape[1])
    for start in range(0, shape[0], each):
        stop = min(start + each, shape[0])
        ours, theirs = (_part(lane, role, start, stop) for lane in (source, target))
        yield from (start + row for row in (ours != theirs).any(-1).nonzero().flatten().tolist())


def _part(lane: Lane, role: str, start: int, stop: int) -> Tensor:
    """Some rows of a table, which aren't held."""
    axis = lane.oracle.roles[role].rows_axis(len(lane.tensors.shape(lane.oracle.roles[role].key)))
    with lane.tensors.windowed({lane.oracle.roles[role].key: Slice(axis, start, stop)}):
        rows = lane.oracle.part(role)
    lane.tensors.release()
    return rows
