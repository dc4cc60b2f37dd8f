"""What can happen to values beside being rearranged: a small closed set of invertible ops.

Each op knows its shape algebra, its inverse and its exactness. All of them work on a run of
elements in C order, so the executor can apply them slab by slab.

===========  ==========================  ===================================================
op           inverse                     exactness
===========  ==========================  ===================================================
``Shift``    ``Shift(-by)``              half an ulp each way, in the dtype of the tensor
``Scale``    ``Scale(1/by)``             exact when ``by`` is a power of two, else as Shift
``Cast``     ``Cast`` back               exact when widening, else half an ulp of the target
``Pad``      ``Crop``                    exact; what is cropped must be the fill, or is kept
===========  ==========================  ===================================================
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from convkit.errors import ConvkitError
from convkit.tensors import TensorSpec, carrier, value_dtype

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


@dataclass(frozen=True, slots=True)
class Exactness:
    """How far a value may move: ``ulp`` 0 is bit-exact, else units in the last place of the dtype named."""

    ulp: float = 0.0
    dtype: str = ""

    @property
    def exact(self) -> bool:
        """Whether no bit changes."""
        return self.ulp == 0

    def to_json(self) -> Any:
        """``"exact"``, or the bound."""
        return "exact" if self.exact else {"ulp": self.ulp, "dtype": self.dtype}


EXACT = Exactness()


@dataclass(frozen=True, slots=True)
class Shift:
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
        """``data``: 1-D in the carrier dtype. Computed in float64, rounded once."""
        return _computed(data, dtype, lambda values: values + self.by)

    def to_json(self) -> dict[str, Any]:
        """For the plan."""
        return {"op": "shift", "by": self.by}


@dataclass(frozen=True, slots=True)
class Scale:
    """Multiplies by a constant: muP, a folded 1/sqrt(d)."""

    by: float

    def inverse(self) -> Scale:
        """Divides by it."""
        return Scale(1.0 / self.by)

    def dtype(self, dtype: str) -> str:
        """Dtype of the result."""
        return dtype

    def exactness(self, dtype: str) -> Exactness:
        """Exact for powers of two (but for subnormals and overflow, which the executor reports)."""
        return EXACT if math.frexp(abs(self.by))[0] == 0.5 else Exactness(0.5, dtype)

    def apply(self, data: np.ndarray, dtype: str) -> np.ndarray:
        """``data``: 1-D in the carrier dtype. Computed in float64, rounded once."""
        return _computed(data, dtype, lambda values: values * self.by)

    def to_json(self) -> dict[str, Any]:
        """For the plan."""
        return {"op": "scale", "by": self.by}


@dataclass(frozen=True, slots=True)
class Cast:
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
        """Exact where every value of the source has its like in the target."""
        bits, top = _FLOATS.get(self.source, (99, 0))
        to_bits, to_top = _FLOATS.get(self.target, (0, 0))
        return EXACT if bits <= to_bits and top <= to_top else Exactness(0.5, self.target)

    def apply(self, data: np.ndarray, dtype: str) -> np.ndarray:
        """``data``: 1-D in the carrier dtype of the source; round to nearest, ties to even."""
        import numpy as np

        with np.errstate(over="ignore", invalid="ignore"):
            out = data.view(value_dtype(self.source)).astype(value_dtype(self.target))
        return out.view(carrier(self.target))

    def to_json(self) -> dict[str, Any]:
        """For the plan."""
        return {"op": "cast", "from": self.source, "to": self.target}


Elementwise = Shift | Scale | Cast


@dataclass(frozen=True, slots=True)
class Pad:
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

    def padded(self, spec: TensorSpec, length: int) -> TensorSpec:
        """The spec with the axis lengthened.

        Raises:
            ConvkitError: the axis is longer already.
        """
        if spec.shape[self.axis] > length:
            raise ConvkitError(
                f"axis {self.axis} has length {spec.shape[self.axis]}, more than {self.to}={length}",
                remedy=f"correct {self.to}",
            )
        shape = list(spec.shape)
        shape[self.axis] = length
        return TensorSpec(tuple(shape), spec.dtype)

    def fill_bits(self, dtype: str) -> Any:
        """The fill in the carrier dtype."""
        import numpy as np

        return np.asarray([self.fill]).astype(value_dtype(dtype)).view(carrier(dtype))[0]


def _computed(data: np.ndarray, dtype: str, function: Any) -> np.ndarray:
    import numpy as np

    values = data.view(value_dtype(dtype))
    with np.errstate(over="ignore", invalid="ignore"):
        return function(values.astype(np.float64)).astype(value_dtype(dtype)).view(carrier(dtype))
