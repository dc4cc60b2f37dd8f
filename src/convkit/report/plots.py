"""Geometry of the plots, which the templates draw.

Positions are in percent of the width, so that a plot fits any page and its text stays legible.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
#: room beyond the outermost decades, in decades, so that marks there aren't cut off
_MARGIN = 0.35


@dataclass(frozen=True)
class Tick:
    """A labelled position on an axis."""

    at: float
    label: str


@dataclass(frozen=True)
class LogAxis:
    """Decades from ``10**low`` to ``10**high``, in percent of the length."""

    low: int
    high: int

    @classmethod
    def over(cls, values: Iterable[float]) -> LogAxis:
        """The decades that contain every positive finite value."""
        exponents = [math.log10(value) for value in values if 0 < value < math.inf] or [0.0]
        low, high = math.floor(min(exponents)), math.ceil(max(exponents))
        return cls(low, max(high, low + 1))

    def at(self, value: float) -> float:
        """The position of a value; zero and infinity lie at the ends of the axis.

        >>> LogAxis(-2, 2).at(1.0), LogAxis(-2, 2).at(0.0), LogAxis(-2, 2).at(math.inf)
        (50.0, 0.0, 100.0)
        """
        if value <= 0:
            return 0.0
        if value == math.inf:
            return 100.0
        share = (math.log10(value) - self.low + _MARGIN) / (self.high - self.low + 2 * _MARGIN)
        return round(100 * min(max(share, 0.0), 1.0), 2)

    def ticks(self, most: int = 7) -> list[Tick]:
        """At most ``most`` whole decades, among them that of 1 if it is on the axis.

        >>> [tick.label for tick in LogAxis(-2, 1).ticks()]
        ['10⁻²', '10⁻¹', '1', '10']
        """
        step = math.ceil((self.high - self.low + 1) / most)
        decades = range(self.low + (-self.low % step), self.high + 1, step)
        return [Tick(self.at(10.0**decade), _decade(decade)) for decade in decades]


def _decade(exponent: int) -> str:
    return {0: "1", 1: "10"}.get(exponent) or "10" + str(exponent).translate(_SUPERSCRIPTS)


@dataclass(frozen=True)
class Dot:
    """A mark on a strip: ``kind`` is ``self`` (the conversion itself), ``caught`` or ``missed`` (a planted fault)."""

    at: float
    kind: str
    label: str


@dataclass(frozen=True)
class Point:
    """A value on a curve, both positions in percent (``y`` from the top)."""

    x: float
    y: float
    label: str


@dataclass(frozen=True)
class Curve:
    """Values after each layer of a model, on a logarithmic axis, and their bound."""

    points: list[Point]
    bound: float | None
    vertical: list[Tick]
    horizontal: list[Tick]


def curve(values: Sequence[tuple[str, float]], bound: float | None) -> Curve:
    """The curve through named values, in the order given."""
    axis = LogAxis.over([value for _, value in values] + ([bound] if bound else []))
    step = 100 / max(len(values) - 1, 1)
    points = [
        Point(round(i * step, 2), round(100 - axis.at(value), 2), f"{name}: {value:.1e}")
        for i, (name, value) in enumerate(values)
    ]
    every = math.ceil(len(values) / 12)
    return Curve(
        points=points,
        bound=round(100 - axis.at(bound), 2) if bound else None,
        vertical=[Tick(round(100 - tick.at, 2), tick.label) for tick in axis.ticks(most=5)],
        horizontal=[
            Tick(point.x, name.removeprefix("layers."))
            for i, (point, (name, _)) in enumerate(zip(points, values, strict=True))
            if i % every == 0
        ],
    )


@dataclass(frozen=True)
class Part:
    """A part of a bar."""

    start: float
    width: float
    label: str


def parts(values: Sequence[tuple[str, float]]) -> list[Part]:
    """A bar divided in proportion to these values.

    >>> [(part.start, part.width) for part in parts([("a", 3), ("b", 1)])]
    [(0.0, 75.0), (75.0, 25.0)]
    """
    total = sum(value for _, value in values) or 1
    result, start = [], 0.0
    for label, value in values:
        width = 100 * value / total
        result.append(Part(round(start, 2), round(width, 2), label))
        start += width
    return result
