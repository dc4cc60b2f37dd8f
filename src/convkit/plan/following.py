"""Follow leaves through a chain of mappings: find the final fate and the first origin of each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from convkit.plan.step import Step

Fates = dict[str, dict[str, Any]]

#: fates that keep a leaf's elements, or what they can be computed from, on the other side
_ARRIVING = ("moved", "copied", "tied", "derived", "folded")
#: origins of leaves that are made from source leaves
_MADE = ("moved", "copied", "tied")


def followed_fates(fates: Sequence[Fates], steps: Sequence[Sequence[Step]]) -> Fates:
    """Find the fate of each leaf of the first side: that of the first mapping, unless a later one can't carry it."""
    found: Fates = {}
    for key, entry in fates[0].items():
        end = _end(key, fates, steps)
        found[key] = {name: value for name, value in (end or entry).items() if name != "step"}
    return found


def followed_origins(origins: Sequence[Fates], steps: Sequence[Sequence[Step]]) -> Fates:
    """Find the origin of each leaf of the last side: that of the last mapping, or the origin of its source leaves."""
    found: Fates = {}
    for key, entry in origins[-1].items():
        start = _start(key, origins, steps)
        found[key] = {name: value for name, value in (start or entry).items() if name != "step"}
    return found


def _end(key: str, fates: Sequence[Fates], steps: Sequence[Sequence[Step]]) -> dict[str, Any] | None:
    """Say why a leaf doesn't arrive; None if it does."""
    entry = fates[0][key]
    if entry["fate"] not in _ARRIVING:
        return entry
    if len(fates) == 1 or entry["fate"] not in ("moved", "copied"):
        return None
    ends = [_end(name, fates[1:], steps[1:]) for name in _made_by(steps[0][entry["step"]])]
    return ends[0] if all(ends) else None


def _start(key: str, origins: Sequence[Fates], steps: Sequence[Sequence[Step]]) -> dict[str, Any] | None:
    """Say where a leaf comes from that isn't made from a source leaf; None if it is."""
    entry = origins[-1][key]
    if entry["origin"] not in _MADE:
        return entry
    if len(origins) == 1:
        return None
    starts = [_start(side.key, origins[:-1], steps[:-1]) for side in steps[-1][entry["step"]].sources]
    return starts[0] if all(starts) else None


def _made_by(step: Step) -> Iterable[str]:
    return [*(side.key for side in step.targets), *(name for name, _ in step.also)]
