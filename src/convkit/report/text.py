"""Numbers as people read them, spelled alike by the page, the table and the commands."""

from __future__ import annotations

import math


def size(count: float | None) -> str:
    """Bytes in decimal units.

    >>> size(90868376), size(512), size(None)
    ('90.9 MB', '512 B', '–')
    """
    if count is None:
        return "–"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(count) < 999.5 or unit == "TB":
            break
        count /= 1000
    return f"{count:.0f} {unit}" if unit == "B" or abs(count) >= 99.95 else f"{count:.1f} {unit}"


def duration(seconds: float | None) -> str:
    """A span of time.

    >>> duration(0.04), duration(9.87), duration(75), duration(7320), duration(None)
    ('0.04 s', '9.9 s', '1 min 15 s', '2 h 02 min', '–')
    """
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 1 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def number(value: object) -> str:
    """A measured value: two significant digits if it is small or huge, integers in full, lists with commas.

    >>> number(3.14159e-07), number(0.25), number(5123.4), number(0.0), number(1 - 2e-9), number(float("inf"))
    ('3.1e-07', '0.25', '5,123', '0', '1 − 2.0e-09', '∞')
    """
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, list):
        return ", ".join(number(entry) for entry in value) or "none"
    if not isinstance(value, float):
        return str(value)
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value == 0:
        return "0"
    if 0.999 < value < 1:
        return f"1 − {1 - value:.1e}"
    if not 1e-3 <= abs(value) < 1e4:
        return f"{value:.1e}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
