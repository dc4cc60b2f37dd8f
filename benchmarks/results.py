"""The recorded results: ``results.json``, and whether a run is worse than what it says.

Only figures that are ratios within one run, or peaks of memory, are compared. A figure is worse if its median has grown
by more than :data:`SMALL` of it, and by more than :data:`TIMES` the noise. The noise is estimated from the spreads of
both runs: half the distance between the quartiles of the figure over the rounds, of both, added as squares.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RECORDED = Path(__file__).with_name("results.json")
#: share of the median that is never told
SMALL = 0.05
#: of the noise
TIMES = 3.0
#: with fewer rounds the noise can't be estimated
ROUNDS = 3

Results = dict[str, Any]


@dataclass(frozen=True)
class Change:
    """A figure that got worse."""

    case: str
    figure: str
    was: float
    is_: float
    noise: float

    def __str__(self) -> str:
        return f"{self.case}: {self.figure} was {self.was:g}, is {self.is_:g} (noise {self.noise:.2g})"


def read(path: Path) -> Results:
    """What was recorded; nothing if no file is there."""
    if not path.exists():
        return {"machine": {}, "cases": {}, "left_out": {}}
    found: Results = json.loads(path.read_text(encoding="utf-8"))
    return found


def write(path: Path, results: Results) -> None:
    """Record results; cases in the order of their names."""
    ordered = {
        "machine": results["machine"],
        "cases": dict(sorted(results["cases"].items())),
        "left_out": dict(sorted(results["left_out"].items())),
    }
    text = json.dumps(ordered, indent=1, ensure_ascii=False)
    # the figures of a side stand in one line
    text = re.sub(r"\[[^][{}\"]*\]", lambda found: " ".join(found[0].split()), text)
    path.write_text(f"{text}\n", encoding="utf-8")


def merged(recorded: Results, new: Results) -> Results:
    """What is recorded after a run: the cases that it measured, and those that others have measured on this machine."""
    if recorded["machine"] != new["machine"]:
        return new
    cases = recorded["cases"] | new["cases"]
    left_out = {name: why for name, why in (recorded["left_out"] | new["left_out"]).items() if name not in cases}
    return {"machine": new["machine"], "cases": cases, "left_out": left_out}


def worse(recorded: Results, new: Results) -> list[Change]:
    """The figures that got worse by more than noise; none if the results are of another machine."""
    if recorded["machine"] != new["machine"]:
        return []
    return [*_changes(recorded["cases"], new["cases"])]


def _changes(recorded: Results, new: Results) -> Iterator[Change]:
    for name in sorted(recorded.keys() & new.keys()):
        was, now = recorded[name], new[name]
        if min(was["rounds"], now["rounds"]) < ROUNDS:
            continue
        for figure in was["figures"].keys() & now["figures"].keys():
            old, fresh = was["figures"][figure], now["figures"][figure]
            if not fresh["compared"]:
                continue
            noise = math.hypot(old["spread"] / 2, fresh["spread"] / 2)
            if fresh["median"] - old["median"] > max(SMALL * old["median"], TIMES * noise):
                yield Change(name, figure, old["median"], fresh["median"], noise)
