"""Geometry of the plot of a model's stages: error, noise and bound of each, and the faults planted in it.

Positions are in percent, as in :mod:`.plots`; ``y`` is from the top.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from convkit.report.plots import LogAxis, Tick
from convkit.report.stages import Stage, parting
from convkit.report.text import times

#: most labels below the plot
_LABELS = 12
#: more stages than this are drawn with smaller marks
_DENSE = 60


@dataclass(frozen=True)
class Line:
    """A line through all stages, as the ``d`` of an SVG path; it has gaps where a figure isn't finite.

    ``kind`` is ``path`` (the error), ``free`` (the free-running error), ``noise`` or ``bound``.
    """

    kind: str
    d: str


@dataclass(frozen=True)
class Mark:
    """A mark at a stage: ``kind`` is ``self`` (the error), ``caught`` or ``missed`` (a planted fault)."""

    x: float
    y: float
    kind: str
    label: str


@dataclass(frozen=True)
class StagePlot:
    """The plot: lines below marks, and the place at which the models part."""

    lines: list[Line]
    marks: list[Mark]
    vertical: list[Tick]
    horizontal: list[Tick]
    parting: Tick | None
    dense: bool


@dataclass(frozen=True)
class _Frame:
    """Where stages and errors lie."""

    stages: int
    axis: LogAxis
    #: whether any error is 0: it lies at the bottom, a decade below all others
    zero: bool

    @classmethod
    def of(cls, stages: int, errors: Sequence[float]) -> _Frame:
        """With room for these errors."""
        axis, zero = LogAxis.over(errors), 0 in errors
        return cls(stages, LogAxis(axis.low - 1, axis.high) if zero else axis, zero)

    @property
    def ticks(self) -> list[Tick]:
        """The decades, and 0 if it's there: the decade that stands apart has no label."""
        lowest = self.axis.at(10.0 ** (self.axis.low + self.zero))
        decades = [Tick(round(100 - tick.at, 2), tick.label) for tick in self.axis.ticks(6) if tick.at >= lowest]
        return [*([Tick(100.0, "0")] if self.zero else []), *decades]

    def x(self, place: float) -> float:
        """The place of a stage, counted from 0: its middle is half further."""
        return round(100 * place / self.stages, 2)

    def y(self, error: float) -> float:
        return round(100 - self.axis.at(error), 2)

    def line(self, kind: str, errors: Sequence[float | None]) -> Line:
        """From the middle of each stage to that of the next."""
        parts = [
            f"{'M' if i == 0 or errors[i - 1] is None else 'L'}{self.x(i + 0.5)} {self.y(error)}"
            for i, error in enumerate(errors)
            if error is not None
        ]
        return Line(kind, "".join(parts))

    def steps(self, kind: str, errors: Sequence[float | None]) -> Line:
        """Level across each stage."""
        parts = [f"M{self.x(i)} {self.y(error)}H{self.x(i + 1)}" for i, error in enumerate(errors) if error is not None]
        return Line(kind, "".join(parts))

    def mark(self, i: int, error: float | None, kind: str, label: str) -> list[Mark]:
        """In the middle of a stage; none of what isn't finite."""
        return [] if error is None else [Mark(self.x(i + 0.5), self.y(error), kind, label)]


def stage_plot(stages: Sequence[Stage]) -> StagePlot:
    """The plot of these stages, at least one, in their order from left to right."""
    errors = [stage.height(stage.excess) if stage.bound else stage.error for stage in stages]
    drawn = [*errors, *(stage.height(fault.excess) for stage in stages for fault in stage.faults)]
    drawn += [figure for stage in stages for figure in (stage.bound, stage.noise, stage.free)]
    frame = _Frame.of(len(stages), [value for value in drawn if value is not None])
    marks: list[Mark] = []
    for i, stage in enumerate(stages):
        for fault in stage.faults:
            kind, label = "caught" if fault.caught else "missed", f"{fault.in_words}: {times(fault.excess)}"
            marks += frame.mark(i, stage.height(fault.excess), kind, label)
    # the errors last, so that they lie above the faults
    for i, (stage, error) in enumerate(zip(stages, errors, strict=True)):
        marks += frame.mark(i, error, "self", stage.in_words)
    parted = parting(stages)
    return StagePlot(
        lines=[
            frame.steps("noise", [stage.noise for stage in stages]),
            frame.steps("bound", [stage.bound for stage in stages]),
            frame.line("free", [stage.free for stage in stages]),
            frame.line("path", errors),
        ],
        marks=marks,
        vertical=frame.ticks,
        horizontal=[Tick(frame.x(i + 0.5), _short(stages[i].name)) for i in _labelled(len(stages))],
        parting=Tick(frame.x(stages.index(parted) + 0.5), parted.name) if parted else None,
        dense=len(stages) > _DENSE,
    )


def _labelled(count: int) -> Iterable[int]:
    """The stages that have a label below the plot: evenly spaced, the last among them."""
    every = math.ceil(count / _LABELS)
    return sorted({*range(0, count - every, every), count - 1})


def _short(name: str) -> str:
    """``3`` for ``layers.3``, ``encoder.3`` for ``encoder.layers.3``."""
    return name.replace("layers.", "")
