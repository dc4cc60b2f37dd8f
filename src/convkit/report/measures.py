"""Measures in units of their bounds: above 1, a check fails."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def excess(measured: Mapping[str, Any], bound: Mapping[str, Any]) -> float | None:
    """The largest measured value in units of its bound: above 1 the check fails. None if no bound applies."""
    ratios = [
        ratio(float(measured[name]), float(limit))
        for name, limit in bound.items()
        if isinstance(limit, int | float) and isinstance(measured.get(name), int | float)
    ]
    return max(ratios, default=None)


def ratio(value: float, limit: float) -> float:
    """A value in units of its bound; infinite for NaN.

    >>> ratio(1.0, 4.0), ratio(0.0, 0.0), ratio(1.0, 0.0), ratio(float("nan"), 4.0)
    (0.25, 0.0, inf, inf)
    """
    if math.isnan(value):
        return math.inf
    if limit == 0:
        return 0.0 if value == 0 else math.inf
    return value / limit


def worst(measured: Mapping[str, Any], bound: Mapping[str, Any]) -> str | None:
    """The name of the measure that is largest in units of its bound; None if no bound applies."""
    ratios = {name: excess(measured, {name: limit}) for name, limit in bound.items()}
    known = {name: ratio for name, ratio in ratios.items() if ratio is not None}
    return max(known, key=lambda name: known[name]) if known else None


def known(value: object) -> float | None:
    """A figure of a document; None unless it is a finite number."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
