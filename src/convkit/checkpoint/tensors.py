"""Describe a tensor before it is read, by shape and dtype, and say how its bytes are carried.

Dtypes have the names that numpy and ml_dtypes give them. Rearranging needs no arithmetic, so
tensors travel as unsigned integers of the same width, or as 16 raw bytes (their *carrier*): no value is
interpreted, ``==`` compares bits, NaN payloads and signed zeros survive, and ml_dtypes isn't needed to move
a bfloat16.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from convkit.errors import ConvkitError

if TYPE_CHECKING:
    import numpy as np

#: dtype name -> bytes per element; a narrow element takes a whole byte, as in memory (ml_dtypes, tensorstore)
ITEMSIZE: dict[str, int] = {
    "bool": 1,
    "int8": 1,
    "uint8": 1,
    "int2": 1,
    "int4": 1,
    "float4_e2m1fn": 1,
    "float8_e4m3fn": 1,
    "float8_e5m2": 1,
    "float8_e4m3fnuz": 1,
    "float8_e5m2fnuz": 1,
    "float8_e8m0fnu": 1,
    "float8_e4m3b11fnuz": 1,
    "int16": 2,
    "uint16": 2,
    "float16": 2,
    "bfloat16": 2,
    "int32": 4,
    "uint32": 4,
    "float32": 4,
    "int64": 8,
    "uint64": 8,
    "float64": 8,
    "complex64": 8,
    "complex128": 16,
}

#: dtype name -> the number of bits in use, the low ones of its byte
NARROW = {"int2": 2, "int4": 4, "float4_e2m1fn": 4}

#: bytes per element -> the numpy dtype that carries it bit by bit; numpy has no integer of 16 bytes
_CARRIER = {1: "uint8", 2: "uint16", 4: "uint32", 8: "uint64", 16: "V16"}


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Shape and dtype of a tensor.

    >>> TensorSpec((2, 3), "bfloat16").nbytes
    12
    """

    shape: tuple[int, ...]
    dtype: str

    def __post_init__(self) -> None:
        if self.dtype not in ITEMSIZE:
            raise ConvkitError(f"dtype {self.dtype!r} is not supported", remedy=f"supported: {', '.join(ITEMSIZE)}")

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def itemsize(self) -> int:
        """Bytes per element."""
        return ITEMSIZE[self.dtype]

    @property
    def nbytes(self) -> int:
        """Bytes of the whole tensor."""
        return self.size * self.itemsize


def carrier(dtype: str) -> np.dtype[Any]:
    """The numpy dtype in which elements of ``dtype`` travel: of the same width, without a meaning."""
    import numpy as np

    return np.dtype(_CARRIER[ITEMSIZE[dtype]])


def value_dtype(dtype: str) -> np.dtype[Any]:
    """The numpy dtype that gives the elements their meaning, for arithmetic and comparison."""
    import numpy as np

    if dtype in ("bfloat16", *NARROW) or dtype.startswith("float8"):
        import ml_dtypes

        return np.dtype(getattr(ml_dtypes, dtype))
    return np.dtype(dtype)
