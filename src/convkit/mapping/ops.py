"""Ops on values, beside rearrangement: a small closed set, each with an inverse.

Each op knows its effect on shapes, its inverse and its exactness. All of them work on a run of
elements in C order, so the executor can apply them slab by slab.

===========  ==========================  ===================================================
op           inverse                     exactness
===========  ==========================  ===================================================
``Shift``    ``Shift(-by)``              half an ulp each way, in the dtype of the tensor
``Scale``    division by the same        exact when ``by`` is a power of two and the exponent
                                         has room for it, else as Shift
``Cast``     ``Cast`` back               exact when widening, else half an ulp of the target
``Pad``      cropping                    exact; what is cropped must be the fill, or is kept
===========  ==========================  ===================================================
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import replace

from convkit.checkpoint import TensorSpec
from convkit.checkpoint.tensors import ITEMSIZE, carrier, value_dtype

if TYPE_CHECKING:
    import numpy as np

#: significand bits (the hidden one included) and largest exponent of the floats
_FLOATS = {
    "float8_e4m3fn": (4, 8),
    "float8_e5m2": (3, 15),
    "float16": (11, 15),
    "bfloat16": (8, 127),
    "float32": (24, 127),
    "float64": (53, 1023),
}


def _float(dtype: str) -> tuple[int, int]:
    """Look up a float in the table; a dtype that isn't there counts as having no exact values."""
    return _FLOATS.get(dtype, (0, 0))


class Exactness(Struct, frozen=True):
    """How far a value may move: ``ulp`` 0 is bit-exact, else units in the last place of the dtype named."""

    ulp: float = 0.0
    dtype: str = ""

    @property
    def exact(self) -> bool:
        """Whether no bit changes."""
        return self.ulp == 0

    def then(self, other: Exactness) -> Exactness:
        """The bound of this op followed by another, in ulps of the coarser dtype."""
        if self.exact or other.exact:
            return other if self.exact else self
        return Exactness(self.ulp + other.ulp, min(self.dtype, other.dtype, key=lambda dtype: _float(dtype)[0]))


EXACT = Exactness()


class Shift(Struct, frozen=True):
    """Adds a constant: a norm scale stored minus one, or folded."""

    by: float

    def inverse(self) -> Shift:
        """Subtracts it."""
        return Shift(-self.by)

    def dtype(self, dtype: str) -> str:
        """Dtype of the result."""
        return dtype

    def exactness(self, dtype: str) -> Exactness:
        """Bound of one application."""
        return Exactness(0.5, dtype) if self.by else EXACT

    def apply(self, data: np.ndarray, dtype: str) -> np.ndarray:
        """``data``: 1-D in the carrier dtype."""
        return computed(data, dtype, lambda values: values + self.by)


class Scale(Struct, frozen=True):
    """Multiplies or divides by a constant: muP, a folded 1/sqrt(d)."""

    by: float
    divide: bool = False

    def inverse(self) -> Scale:
        """The op that undoes it, with the same number, since ``1 / (1 / 49)`` isn't 49."""
        return replace(self, divide=not self.divide)

    def dtype(self, dtype: str) -> str:
        """Dtype of the result."""
        return dtype

    def exactness(self, dtype: str) -> Exactness:
        """Exact for powers of two where the dtype has a wide exponent (except below 2**-126, and on overflow)."""
        wide = _float(dtype)[1] >= 127
        return EXACT if wide and math.frexp(abs(self.by))[0] == 0.5 else Exactness(0.5, dtype)

    def apply(self, data: np.ndarray, dtype: str) -> np.ndarray:
        """``data``: 1-D in the carrier dtype."""
        return computed(data, dtype, lambda values: values / self.by if self.divide else values * self.by)


class Cast(Struct, frozen=True):
    """Changes the dtype of floats; other dtypes stay as they are."""

    source: str
    target: str

    def inverse(self) -> Cast:
        """Back to the source's dtype."""
        return Cast(self.target, self.source)

    def dtype(self, dtype: str) -> str:
        """Dtype of the result."""
        return self.target

    def exactness(self, dtype: str) -> Exactness:
        """Exact where the target can represent every value of the source."""
        if self.source not in _FLOATS:
            return Exactness(0.5, self.target)
        (bits, top), (to_bits, to_top) = _float(self.source), _float(self.target)
        return EXACT if bits <= to_bits and top <= to_top else Exactness(0.5, self.target)

    def apply(self, data: np.ndarray, dtype: str) -> np.ndarray:
        """``data``: 1-D in the carrier dtype of the source; round to nearest, ties to even; NaNs keep their payload."""
        import numpy as np

        values = data.view(value_dtype(self.source))
        out = _rounded(values, self.target)
        with np.errstate(invalid="ignore"):
            odd = np.isnan(values)
        if odd.any() and self.source in _FLOATS and self.target in _FLOATS:
            out[odd] = _nans(data[odd], self.source, self.target)
        return out

    def overflow(self, before: np.ndarray, after: np.ndarray) -> Overflow:
        """Finite values that :meth:`apply` made infinite, or NaN where the target has no infinity."""
        import numpy as np

        lost = ~np.isfinite(after.view(value_dtype(self.target)))
        if not lost.any():
            return Overflow()
        with np.errstate(invalid="ignore"):  # signalling NaNs
            values = np.abs(before.view(value_dtype(self.source))[lost].astype(np.float64))
        values = values[np.isfinite(values)]
        return Overflow(values.size, float(values.max())) if values.size else Overflow()


class Overflow(Struct, frozen=True):
    """How many finite values a dtype can't hold, and the largest magnitude of them."""

    count: int = 0
    largest: float = 0.0

    def __add__(self, other: Overflow) -> Overflow:
        return Overflow(self.count + other.count, max(self.largest, other.largest))

    def said(self, dtype: str) -> str:
        """What happened, in words."""
        import ml_dtypes

        top = float(ml_dtypes.finfo(value_dtype(dtype)).max)
        values = "1 finite value" if self.count == 1 else f"{self.count} finite values"
        return f"{values} of up to {self.largest:g} can't be held by {dtype}, whose largest value is {top:g}"


Elementwise = Shift | Scale | Cast


class Pad(Struct, frozen=True):
    """Lengthens one axis on one side to a named size and fills the end (vocabulary padding).

    Towards the other side it crops; what is cropped must be the fill, else it is kept as complement.
    """

    axis: int
    to: str
    fill: float = 0.0
    side: str = "right"

    def inverse(self) -> Pad:
        """The same with the sides exchanged."""
        return replace(self, side="left" if self.side == "right" else "right")

    def scoped(self, scope: str) -> Pad:
        """Put a scope before the name of the length, as it is called in a pack."""
        return replace(self, to=scope + self.to)

    def padded(self, spec: TensorSpec, length: int) -> TensorSpec:
        """Return the spec with the axis lengthened."""
        shape = list(spec.shape)
        shape[self.axis] = length
        return TensorSpec(tuple(shape), spec.dtype)


def bits_of(value: float, dtype: str) -> Any:
    """The bits of a number in that dtype, in the carrier dtype."""
    import numpy as np

    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray([value]).astype(value_dtype(dtype)).view(carrier(dtype))[0]


def computed(data: np.ndarray, dtype: str, function: Any) -> np.ndarray:
    """Compute in float64 and round once; a NaN keeps its bits."""
    import numpy as np

    with np.errstate(over="ignore", invalid="ignore"):
        values = data.view(value_dtype(dtype)).astype(np.float64)
        return np.where(np.isnan(values), data, _rounded(function(values), dtype))


def _rounded(values: np.ndarray, dtype: str) -> np.ndarray:
    """Round once, to nearest, ties to even; the result has the carrier dtype.

    ml_dtypes goes from float64 through float32. A value beside a tie must not be rounded onto the tie on the way,
    so that step rounds to odd.
    """
    import numpy as np

    with np.errstate(over="ignore", invalid="ignore"):
        if values.dtype == np.float64 and value_dtype(dtype).isbuiltin != 1:
            single = values.astype(np.float32)
            bits = single.view(np.uint32)
            bits -= np.abs(single) > np.abs(values)
            bits |= single != values
            values = single
        return values.astype(value_dtype(dtype)).view(carrier(dtype))


def _nans(data: np.ndarray, source: str, target: str) -> np.ndarray:
    """Convert NaNs to another width: keep the sign, and the leading bits of the payload that fit."""
    import numpy as np

    have, want = _FLOATS[source][0] - 1, _FLOATS[target][0] - 1
    raw = data.astype(np.uint64)
    payload = (raw & np.uint64((1 << have) - 1)) << np.uint64(max(0, want - have)) >> np.uint64(max(0, have - want))
    payload[payload == 0] = 1 << (want - 1)
    if target == "float8_e4m3fn":
        payload[:] = (1 << want) - 1  # the only one that it has
    top = 8 * ITEMSIZE[target] - 1
    sign = raw >> np.uint64(8 * ITEMSIZE[source] - 1) << np.uint64(top)
    exponent = np.uint64((1 << top) - (1 << want))
    return (sign | exponent | payload).astype(carrier(target))
