"""Strips: a conversion and its planted faults as dots on one axis, each error in units of its bound.

What isn't finite has no dot.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from convkit.report.campaign import Conversion
from convkit.report.checks import CHECKS
from convkit.report.measures import excess
from convkit.report.plots import Dot, LogAxis
from convkit.report.stages import Planted, faults_of, stages_of
from convkit.report.text import times


@dataclass(frozen=True)
class FaultLine:
    """A planted fault, its error in units of the bound, and the position at which it is drawn.

    The position is None of an error that isn't finite, and of faults of the round trip, which have no size.
    """

    check: str
    name: str
    caught: bool
    excess: float | None
    at: float | None


def axis_over(conversions: Iterable[Conversion]) -> LogAxis:
    """The axis that has room for every error of these conversions, and for the bound."""
    found = [1.0]
    for conversion in conversions:
        verdict = conversion.documents.get("equivalence", {})
        excesses = (own_excess(verdict), *(fault.excess for fault in faults_of(verdict)))
        found += [value for value in excesses if value is not None]
    return LogAxis.over(found)


def own_excess(verdict: Mapping[str, Any]) -> float | None:
    """The error of the conversion itself in units of its bound: of its stages, if it has any, the largest."""
    if stages := stages_of(verdict):
        return max((stage.excess for stage in stages if not stage.unshown), default=None)
    return excess(verdict.get("measured", {}), verdict.get("bound", {}))


def fault_lines(conversion: Conversion, axis: LogAxis) -> list[FaultLine]:
    """The faults planted in a conversion, the smallest error first."""
    lines = [_line(check, fault, axis) for check in CHECKS for fault in faults_of(conversion.documents.get(check, {}))]
    return sorted(lines, key=lambda line: line.excess or 0.0)


def _line(check: str, fault: Planted, axis: LogAxis) -> FaultLine:
    # before verdicts had stages, a fault that was caught without a figure had made the model compute NaN or infinity
    value = math.inf if fault.excess is None and fault.caught and not fault.stage else fault.excess
    finite = value if value is not None and math.isfinite(value) else None
    at = None if finite is None or check != "equivalence" else axis.at(finite)
    return FaultLine(check, fault.in_words, fault.caught, value, at)


def strip(own: float | None, faults: Sequence[FaultLine], axis: LogAxis) -> list[Dot]:
    """The dots of a conversion, itself last, so that it lies above the others."""
    dots = [
        Dot(fault.at, "caught" if fault.caught else "missed", f"{fault.name}: {times(fault.excess)}")
        for fault in faults
        if fault.at is not None
    ]
    if own is None or not math.isfinite(own):
        return dots
    return [*dots, Dot(axis.at(own), "self", f"as converted: {times(own)}")]
