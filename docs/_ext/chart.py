"""Charts of curves, as drawings within a page: both axes logarithmic, one line a series, in the colours of the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from convkit.report.plots import LogAxis

Points = Sequence[tuple[float, float]]
WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 640, 300, 56, 52, 26
COLOURS = ("#2563eb", "#ea580c", "#059669", "#9333ea", "#64748b")


def chart(title: str, unit: str, series: Mapping[str, Points]) -> str:
    """A drawing of series over one axis.

    Args:
        title: what the vertical axis counts.
        unit: what the horizontal axis counts.
        series: the points of each, from left to right, all positive.
    """
    points = [point for some in series.values() for point in some]
    across, up = LogAxis.over(x for x, _ in points), LogAxis.over(y for _, y in points)

    def x(value: float) -> float:
        return round(LEFT + across.at(value) / 100 * (WIDTH - LEFT), 1)

    def y(value: float) -> float:
        return round(HEIGHT - BOTTOM - up.at(value) / 100 * (HEIGHT - BOTTOM - TOP), 1)

    parts = [_axis_across(across, unit), _axis_up(up, title)]
    for number, (name, some) in enumerate(series.items()):
        colour, legend = COLOURS[number % len(COLOURS)], LEFT + 120 * number
        line = " ".join(f"{x(a)},{y(b)}" for a, b in some)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for a, b in some:
            said = escape(f"{name}: {b:,g} {title} at {a:,g} {unit}")
            parts.append(f'<circle cx="{x(a)}" cy="{y(b)}" r="4" fill="{colour}"><title>{said}</title></circle>')
        parts.append(f'<circle cx="{legend + 6}" cy="{HEIGHT - 6}" r="4" fill="{colour}"/>')
        parts.append(f'<text x="{legend + 16}" y="{HEIGHT - 2}">{escape(name)}</text>')
    label = escape(f"{title} over {unit}: {', '.join(series)}")
    drawn = "".join(parts)
    return (
        f'<figure class="drawing chart"><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">'
        f"{drawn}</svg></figure>"
    )


def _axis_across(axis: LogAxis, unit: str) -> str:
    marks = [f'<text x="{WIDTH - 2}" y="{HEIGHT - BOTTOM + 30}" text-anchor="end">{escape(unit)}</text>']
    for tick in axis.ticks():
        at = round(LEFT + tick.at / 100 * (WIDTH - LEFT), 1)
        marks.append(f'<line class="grid" x1="{at}" x2="{at}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
        marks.append(f'<text x="{at}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{tick.label}</text>')
    return "".join(marks)


def _axis_up(axis: LogAxis, title: str) -> str:
    marks = [f'<text x="{LEFT}" y="14">{escape(title)}</text>']
    for tick in axis.ticks(5):
        at = round(HEIGHT - BOTTOM - tick.at / 100 * (HEIGHT - BOTTOM - TOP), 1)
        marks.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH}" y1="{at}" y2="{at}"/>')
        marks.append(f'<text x="{LEFT - 6}" y="{at + 4}" text-anchor="end">{tick.label}</text>')
    return "".join(marks)
