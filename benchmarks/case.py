"""What a benchmark is: sides that are run in turn, and figures of their runs.

A module of this package has a table ``CASES`` and functions that yield its sides; :mod:`benchmarks.table` names the
modules. Everything else is done for it: rounds, load, medians, the results, the comparison with what was recorded.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.processes import Run, clear, timed

#: runs a side once: whatever an earlier run left is removed before the clock starts
Side = Callable[[], Run]
#: makes in a folder what the sides need, yields them by name in the order of a round, and is resumed at the end
Sides = Callable[[Path], Iterator[Mapping[str, Side]]]

CONVKIT = (sys.executable, "-m", "convkit")
UNITS = {"wall": "seconds", "cpu": "CPU seconds", "anonymous": "MiB"}


@dataclass(frozen=True)
class Figure:
    """A figure of a case, of each round: the less the better.

    Args:
        of: a side, or sides whose runs are added up.
        to: sides that they are divided by; without them the figure is a quantity, in :data:`UNITS`.
        what: ``wall``, ``cpu`` or ``anonymous`` (the peak of memory, in MiB).
        per: what a quantity is divided by, such as a number of rows.
        limit: the goal, which the median should not exceed.
    """

    of: str | tuple[str, ...]
    to: str | tuple[str, ...] = ()
    what: str = "wall"
    per: float = 1
    limit: float | None = None

    @property
    def name(self) -> str:
        """What stands in the results."""
        of, to = _sum(self.of), _sum(self.to)
        if to:
            return f"{self.what}: {of} / {to}"
        return f"{UNITS[self.what]}: {of}" + (f" / {self.per:,}" if self.per != 1 else "")

    @property
    def compared(self) -> bool:
        """Whether it may be compared with that of an earlier run: seconds aren't, for the machine may be busier."""
        return bool(self.to) or self.what == "anonymous"

    def values(self, runs: Mapping[str, Sequence[Run]]) -> list[float]:
        """The figure of each round."""
        found = [self._total(self.of, round_) for round_ in _rounds(runs)]
        if not self.to:
            scale = self.per * (1 << 20 if self.what == "anonymous" else 1)
            return [value / scale for value in found]
        others = [self._total(self.to, round_) for round_ in _rounds(runs)]
        return [value / other for value, other in zip(found, others, strict=True)]

    def _total(self, sides: str | tuple[str, ...], runs: Mapping[str, Run]) -> float:
        every = [getattr(runs[side], self.what) for side in _names(sides)]
        return max(every) if self.what == "anonymous" else sum(every)


@dataclass(frozen=True)
class Case:
    """A benchmark.

    Args:
        name: as on the command line; what is measured at several sizes is ``curve/size``.
        about: what is measured, in a sentence that begins in lower case.
        sides: see :data:`Sides`. Cases of one module share a folder while the module's cases run.
        figures: what is told of the runs.
        disk: GB that it takes at most, while it runs.
        pairs: rounds, unless the command line says otherwise.
        warm: whether a first round is run that isn't counted.
        packages: distributions whose versions are recorded; it is left out where one is missing.
        versions: tells other versions that are recorded.
        missing: tells what else keeps it from being run here; "" if nothing does.
        at: the place on a curve, if it is a point of one.
        unit: what the curve's axis counts.
        peers: sides that are other people's programs, and the side of ours that each is compared with.
        long: whether it is left out unless asked for, by its name or by ``--all``.
    """

    name: str
    about: str
    sides: Sides
    figures: tuple[Figure, ...]
    disk: float = 1
    pairs: int = 5
    warm: bool = True
    packages: tuple[str, ...] = ()
    versions: Callable[[], Mapping[str, str]] = dict
    missing: Callable[[], str] = lambda: ""
    at: float | None = None
    unit: str = ""
    peers: Mapping[str, str] = field(default_factory=dict)
    long: bool = False

    @property
    def curve(self) -> str:
        """The curve that it is a point of; "" if of none."""
        return "" if self.at is None else self.name.partition("/")[0]


def command(
    *words: str | Path,
    clears: Path | Sequence[Path] = (),
    output: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Side:
    """A side that is a whole process.

    Args:
        words: the command.
        clears: outputs that are removed before it starts, with the files beside them.
        output: where what it prints is written; nowhere by default.
        environment: variables beside those of this process.
    """

    def run() -> Run:
        for target in [clears] if isinstance(clears, Path) else clears:
            clear(target)
        return timed([*map(str, words)], output, environment)

    return run


def _names(sides: str | tuple[str, ...]) -> tuple[str, ...]:
    return (sides,) if isinstance(sides, str) else sides


def _sum(sides: str | tuple[str, ...]) -> str:
    return " + ".join(_names(sides))


def _rounds(runs: Mapping[str, Sequence[Run]]) -> Iterator[dict[str, Run]]:
    for round_ in zip(*runs.values(), strict=True):
        yield dict(zip(runs, round_, strict=True))
