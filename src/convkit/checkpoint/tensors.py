"""Describe a tensor before it is read, by shape and dtype, and say how its bytes are carried.

Dtypes have the names that numpy and ml_dtypes give them. Rearranging needs no arithmetic, so
tensors travel as unsigned integers of the same width, or as 16 raw bytes (their *carrier*): no value is
interpreted, ``==`` compares bits, NaN payloads and signed zeros survive, and ml_dtypes isn't needed to move
a bfloat16.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from msgspec import Struct

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

#: what people and other tools call floating-point dtypes
SPELLED = {
    "bf16": "bfloat16",
    "brain": "bfloat16",
    "half": "float16",
    "fp16": "float16",
    "f16": "float16",
    "float": "float32",
    "single": "float32",
    "full": "float32",
    "fp32": "float32",
    "f32": "float32",
    "double": "float64",
    "fp64": "float64",
    "f64": "float64",
    "fp8_e4m3": "float8_e4m3fn",
    "fp8_e4m3fn": "float8_e4m3fn",
    "f8_e4m3": "float8_e4m3fn",
    "f8_e4m3fn": "float8_e4m3fn",
    "float8_e4m3": "float8_e4m3fn",
    "e4m3": "float8_e4m3fn",
    "e4m3fn": "float8_e4m3fn",
    "fp8_e5m2": "float8_e5m2",
    "f8_e5m2": "float8_e5m2",
    "e5m2": "float8_e5m2",
}


def dtype_called(name: str) -> str:
    """The dtype that people or other tools call by a name; the name itself where it is none of theirs.

    >>> dtype_called("bf16"), dtype_called("torch.float16"), dtype_called("FP32"), dtype_called("int8")
    ('bfloat16', 'float16', 'float32', 'int8')
    """
    plain = name.strip().lower().rpartition(".")[2].replace("-", "_")
    return SPELLED.get(plain, plain if plain in ITEMSIZE else name)


#: dtype name -> the number of bits in use, the low ones of its byte
NARROW = {"int2": 2, "int4": 4, "float4_e2m1fn": 4}

#: bytes per element -> the numpy dtype that carries it bit by bit; numpy has no integer of 16 bytes
_CARRIER = {1: "uint8", 2: "uint16", 4: "uint32", 8: "uint64", 16: "V16"}


#: most axes of a tensor: numpy's limit
AXES_LIMIT = 64
#: most bytes of a tensor: numpy and tensorstore count them in 63 bits
BYTES_LIMIT = (1 << 63) - 1
#: most bytes of a tensor that aren't stored (one element repeated, chunks left out), or a small file would fill a disk:
#: above the largest tensors that frameworks write so, moments of an embedding that are still zero (19 GB)
UNSTORED_LIMIT = 1 << 35


_REDO = "fetch the file again; don't trust it if it stays so"


class TensorSpec(Struct, frozen=True):
    """Shape and dtype of a tensor.

    Raises:
        ConvkitError: an unknown dtype, or over :data:`AXES_LIMIT` or :data:`BYTES_LIMIT`.

    >>> TensorSpec((2, 3), "bfloat16").nbytes
    12
    """

    shape: tuple[int, ...]
    dtype: str

    def __post_init__(self) -> None:
        if self.dtype not in ITEMSIZE:
            raise ConvkitError(f"dtype {self.dtype!r} is not supported", remedy=f"supported: {', '.join(ITEMSIZE)}")
        if len(self.shape) > AXES_LIMIT:
            raise ConvkitError(f"has {len(self.shape)} axes, over {AXES_LIMIT}, the most that numpy has", remedy=_REDO)
        # a tensor without elements may have any other axes, up to the same limit
        if math.prod(filter(None, self.shape)) * self.itemsize > BYTES_LIMIT:
            raise ConvkitError(f"has over {BYTES_LIMIT} bytes, the most of a tensor", remedy=_REDO)

    @classmethod
    def found(
        cls, shape: Iterable[int], dtype: str, path: str | os.PathLike[str], key: str | None = None
    ) -> TensorSpec:
        """The spec that a file states.

        Raises:
            ConvkitError: see the class; it names the file and the key.
        """
        try:
            return _spec(tuple(shape), dtype)
        except ConvkitError as error:
            raise ConvkitError(error.problem, path=path, key=key, remedy=error.remedy) from None

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


@lru_cache(maxsize=4096)
def _spec(shape: tuple[int, ...], dtype: str) -> TensorSpec:
    """One object for all tensors that are alike: a huge checkpoint has a few hundred thousand of them."""
    return TensorSpec(shape, dtype)


def check_unstored(
    nbytes: int, stored: int, path: str | os.PathLike[str] | None = None, key: str | None = None
) -> None:
    """Check that a tensor isn't far larger than what is stored of it.

    Raises:
        ConvkitError: over :data:`UNSTORED_LIMIT` bytes aren't.
    """
    if nbytes - stored > UNSTORED_LIMIT:
        problem = (
            f"has {nbytes} bytes, of which {stored} are stored: over {UNSTORED_LIMIT}, the most that may be absent"
        )
        raise ConvkitError(problem, path=path, key=key, remedy=_REDO)


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
