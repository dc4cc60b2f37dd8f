"""Undo what a step did to values, and bound the distance of the result from the source.

Steps with ops preserve values: if they are exact, every value comes back, and every NaN as some NaN. Other steps
preserve bits.

The distance of a value from its source is measured in units in the last place of the dtype that the step names, at the
largest magnitude that the value had on its way.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from convkit.checkpoint.tensors import carrier, value_dtype
from convkit.verify.documents import Bound, Cast, Op, Scale, Shift, Step

#: the part of a distance that may come from computing it
SLACK = 2.0**-24

Ops = Sequence[Op]


def undo(data: np.ndarray, ops: Ops, source: str, target: str) -> np.ndarray:
    """Turn elements of a target leaf (carrier of ``target``) back into the source's (carrier of ``source``).

    Shifts and scales are undone in float64 and rounded once; casts are undone by that rounding.
    """
    if not ops:
        return data
    values = data.view(value_dtype(target))
    with np.errstate(all="ignore"):
        if not all(isinstance(op, Cast) for op in ops):
            values = _backward(values.astype(np.float64), ops)
        return values.astype(value_dtype(source)).view(carrier(source))


def fill_bits(fill: float, dtype: str, ops: Ops = (), target: str | None = None) -> Any:
    """A fill in the carrier of ``dtype``; with ops, their result in the carrier of ``target``."""
    target = target or dtype
    with np.errstate(all="ignore"):
        value = _forward(np.asarray([fill]).astype(value_dtype(dtype)), ops).astype(value_dtype(target))
    return value.view(carrier(target))[0]


def bound(step: Step) -> float:
    """Bound how many ulps a value may be from its source after the round trip; 0 is exact."""
    declared = _declared(step)
    if not declared:
        return 0.0
    rounded = [op for op in step.ops if isinstance(op, Shift) or (isinstance(op, Scale) and not _binary(op))]
    # in float64, the operand of an op is rounded as much as the value
    each = 1.5 if declared[0].dtype == "float64" else 0.5
    # the comparison computes the fold again, so its result is rounded again
    return sum(part.ulp for part in declared) + each * (len(rounded) + bool(step.folded))


def _declared(step: Step) -> list[Bound]:
    """The bounds that a step declares: for its ops, and for its fold."""
    parts = (step.exactness, step.folded.exactness if step.folded else "exact")
    return [part for part in parts if isinstance(part, Bound)]


def differing(source: np.ndarray, back: np.ndarray, ops: Ops, dtype: str) -> np.ndarray:
    """Where two runs of elements (1-D, carrier of ``dtype``) differ: one bool per element."""
    wrong = source != back
    if ops:
        with np.errstate(all="ignore"):
            both = (np.isnan(run.view(value_dtype(dtype))) for run in (source, back))
            wrong &= ~np.logical_and(*both)
    return wrong


def distance(source: np.ndarray, back: np.ndarray, dtype: str, step: Step) -> np.ndarray:
    """The distance of elements (1-D, carrier of ``dtype``) in ulps: float64, inf if one isn't finite.

    The unit is that of the coarsest dtype on the way. Narrow dtypes also run out of exponents.
    """
    ops = step.ops
    dtypes = {
        *(part.dtype for part in _declared(step)),
        *(dtype for op in ops if isinstance(op, Cast) for dtype in (op.from_, op.to)),
    }
    gain = abs(math.prod(op.by for op in ops if isinstance(op, Scale)))
    with np.errstate(all="ignore"):
        here, there = (run.view(value_dtype(dtype)).astype(np.float64) for run in (source, back))
        made = _forward(here, ops)
        unit = np.maximum.reduce([ulp for name in dtypes for ulp in (_ulp(here, name), _ulp(made, name) / gain)])
        apart = np.abs(here - there) / unit
    apart[(here == there) | (np.isnan(here) & np.isnan(there))] = 0.0
    return np.nan_to_num(apart, nan=math.inf, posinf=math.inf) * (1 - SLACK)


def _forward(values: np.ndarray, ops: Ops) -> np.ndarray:
    values = values.astype(np.float64)
    for op in ops:
        if isinstance(op, Shift):
            values = values + op.by
        elif isinstance(op, Scale):
            values = values * op.by
    return values


def _backward(values: np.ndarray, ops: Ops) -> np.ndarray:
    for op in reversed(ops):
        if isinstance(op, Shift):
            values = values - op.by
        elif isinstance(op, Scale):
            values = values / op.by
    return values


def _binary(op: Scale) -> bool:
    """Whether a scale changes only the exponent."""
    return math.frexp(abs(op.by))[0] == 0.5


def _ulp(values: np.ndarray, dtype: str) -> np.ndarray:
    """The unit in the last place of a dtype at these magnitudes."""
    bits, lowest = _precision(dtype)
    _, exponent = np.frexp(values)
    return np.ldexp(1.0, np.maximum(exponent - 1, lowest) - bits)


@cache
def _precision(dtype: str) -> tuple[int, int]:
    """Bits of the fraction, and the exponent of the smallest normal number."""
    import ml_dtypes

    info = ml_dtypes.finfo(value_dtype(dtype))
    return int(info.nmant), int(info.minexp)
