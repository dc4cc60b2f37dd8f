"""What programs save beside tensors: from which calls in a pickle plain data is made, and how.

Each function takes the arguments that stand in the pickle (Python 3.14: ``pathlib``, ``codecs``, ``collections``; numpy
1.7 to 2.4: ``multiarray``; torch 2.13: ``torch.device``). An object that isn't plain data becomes an
:class:`UnknownObject`: its class is neither imported nor called, and its content isn't kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np

from convkit.checkpoint import UnknownObject
from convkit.checkpoint.tensors import ITEMSIZE, carrier, value_dtype
from convkit.state.pickle_machine import Name

#: most characters of the kind of an object
KIND_LIMIT = 200

#: kinds of which the objects are shared, because a hostile pickle can make millions of one
_KINDS = 1 << 12

#: numpy's code of a dtype -> its name
_NUMBERS = {
    "b1": "bool",
    **{
        f"{letter}{size}": f"{word}{8 * size}"
        for letter, word in (("i", "int"), ("u", "uint"))
        for size in (1, 2, 4, 8)
    },
    **{f"f{size}": f"float{8 * size}" for size in (2, 4, 8)},
    **{f"c{size}": f"complex{8 * size}" for size in (8, 16)},
}
#: functions that make an object of the class or the tensor that is the argument at this place
_MAKERS = {
    "copyreg._reconstructor": 0,
    "copy_reg._reconstructor": 0,
    "builtins.getattr": 0,
    "__builtin__.getattr": 0,
    "torch._tensor._rebuild_from_type_v2": 1,
}
#: functions of torch/_utils.py that rebuild tensors of other kinds than dense ones -> what they rebuild
_TENSORS = {
    "torch._utils._rebuild_sparse_tensor": "sparse tensor",
    "torch._utils._rebuild_meta_tensor_no_storage": "meta tensor, which has no elements",
    "torch._utils._rebuild_qtensor": "quantised tensor",
    "torch._utils._rebuild_nested_tensor": "nested tensor",
}


@lru_cache(_KINDS)
def unknown(kind: str) -> UnknownObject:
    """An object of a kind, which is named on one line."""
    return UnknownObject(ascii(kind[:KIND_LIMIT])[1:-1])


def unknown_call(called: str, args: tuple[Any, ...]) -> UnknownObject:
    """What a call makes of which only the function's name is known, or the class that it is given."""
    place = _MAKERS.get(called)
    made = args[place] if place is not None and place < len(args) else None
    if isinstance(made, UnknownObject):
        return made
    return unknown(made.name if isinstance(made, Name) else _TENSORS.get(called, called))


class Items(list[Any]):
    """The items of a set, in the pickle's order."""

    __slots__ = ()

    def in_order(self) -> list[Any]:
        """Sorted where they can be, because a set's own order changes from one process to the next."""
        alike = all(isinstance(item, str) for item in self) or all(isinstance(item, int) for item in self)
        return sorted(self) if alike else list(self)


@dataclass(slots=True)
class Dtype:
    """A dtype of numpy: its ``name`` is None if it isn't a numeric one that convkit knows."""

    code: str
    name: str | None
    swapped: bool = False

    def build(self, state: Any) -> None:
        """Set the byte order. States of structured dtypes have fields."""
        match state:
            case (int(), ("<" | "|" | "=" | ">") as order, None, None, None, *_):
                self.swapped = order == ">"
            case _:
                self.name = None
        if self.swapped and self.name not in _NUMBERS.values():
            self.name = None

    def read(self, raw: bytes) -> np.ndarray:
        """The elements of ``raw``: 1-D, little-endian."""
        found = np.frombuffer(raw, value_dtype(self.name or self.code))
        return found.byteswap() if self.swapped else found


@dataclass(slots=True, eq=False)
class Array:
    """An array of numpy whose elements lie in the pickle; without a dtype, its elements aren't numbers."""

    raw: bytes = b""
    dtype: str | None = None
    shape: tuple[int, ...] = ()
    order: str = "C"
    swapped: bool = False

    def build(self, state: Any) -> None:
        """Set shape, dtype and elements.

        Raises:
            ValueError: there are more or fewer elements than the shape says.
        """
        match state:
            case (int(), tuple() as shape, Dtype() as dtype, fortran, bytes() as raw):
                self.fill(raw, dtype, shape, "F" if fortran in (True, 1) else "C")
            case _:
                self.dtype = None

    def fill(self, raw: bytes, dtype: Dtype, shape: tuple[Any, ...], order: str) -> None:
        """See :meth:`build`."""
        if dtype.name is None:
            return
        if not is_extent(shape) or math.prod(shape) * ITEMSIZE[dtype.name] != len(raw):
            raise ValueError("an array whose elements don't fit its shape")
        self.raw, self.dtype, self.shape, self.order = raw, dtype.name, shape, order
        self.swapped = dtype.swapped

    def read(self, start: int, stop: int) -> np.ndarray:
        """Elements ``[start, stop)`` in C order, in the carrier dtype."""
        carried = carrier(self.dtype or "")
        if start == stop:
            return np.empty(0, carried)
        if self.order == "C":
            found = np.frombuffer(self.raw, carried, stop - start, start * carried.itemsize)
        else:
            found = np.ndarray(self.shape, carried, self.raw, order="F").flat[start:stop]
        return found.view(value_dtype(self.dtype or "")).byteswap().view(carried) if self.swapped else found


def is_extent(items: Any) -> bool:
    """Whether it is a tuple of lengths."""
    return isinstance(items, tuple) and all(type(item) is int and item >= 0 for item in items)


def _dtype(code: Any, *_flags: Any) -> Dtype | None:
    if isinstance(code, Name):
        module, _, name = code.name.rpartition(".")
        return Dtype(code.name, name if module == "ml_dtypes" and name in ITEMSIZE else None)
    return Dtype(code, _NUMBERS.get(code)) if isinstance(code, str) else None


def _scalar(dtype: Any, raw: Any = None) -> Any:
    if not isinstance(dtype, Dtype) or not isinstance(raw, bytes):
        return unknown("numpy scalar")
    if dtype.name is None:
        is_text = dtype.code.startswith("U") and not dtype.swapped
        return raw.decode("utf-32-le").rstrip("\0") if is_text else unknown(f"numpy scalar of dtype {dtype.code}")
    (value,) = dtype.read(raw)
    if dtype.name.startswith("complex"):
        return unknown("complex number")
    if dtype.name == "bool":
        return bool(value)
    return int(value) if dtype.name.startswith(("int", "uint")) else float(value)


def _array(cls: Any, *_: Any) -> Any:
    is_plain = isinstance(cls, Name) and cls.name == "numpy.ndarray"
    return Array() if is_plain else unknown(cls.name if isinstance(cls, Name) else "numpy.ndarray")


def _array_of_buffer(raw: Any, dtype: Any, shape: Any, order: Any) -> Array | None:
    if not isinstance(raw, bytes | bytearray) or not isinstance(dtype, Dtype) or not isinstance(shape, tuple):
        return None
    found = Array()
    found.fill(bytes(raw), dtype, shape, "F" if order == "F" else "C")
    return found


def _encode(text: Any, encoding: Any = "latin1") -> bytes | None:
    return text.encode("latin1") if isinstance(text, str) and encoding in ("latin1", "latin-1") else None


def _bytes(raw: Any = b"", encoding: Any = "latin1") -> bytes | None:
    return bytes(raw) if isinstance(raw, bytes | bytearray) else _encode(raw, encoding)


def _set(items: Any = ()) -> Items | None:
    return Items(items) if isinstance(items, list | tuple) else None


def _default_dict(*_: Any) -> dict[str | int, Any]:
    return {}


def _device(kind: Any, number: Any = None) -> str | None:
    if not isinstance(kind, str) or not isinstance(number, int | None):
        return None
    return kind if number is None else f"{kind}:{number}"


def _posix_path(*parts: Any) -> str | None:
    return str(PurePosixPath(*parts)) if all(isinstance(part, str) for part in parts) else None


def _windows_path(*parts: Any) -> str | None:
    return str(PureWindowsPath(*parts)) if all(isinstance(part, str) for part in parts) else None


CALLS: dict[str, Callable[..., Any]] = {
    "_codecs.encode": _encode,
    "collections.defaultdict": _default_dict,
    "numpy.dtype": _dtype,
    "torch.device": _device,
    **{f"numpy.{core}.multiarray.scalar": _scalar for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray._reconstruct": _array for core in ("core", "_core")},
    **{f"numpy.{core}.numeric._frombuffer": _array_of_buffer for core in ("core", "_core")},
    **{f"{module}.{name}": _set for module in ("builtins", "__builtin__") for name in ("set", "frozenset")},
    **{f"{module}.{name}": _bytes for module in ("builtins", "__builtin__") for name in ("bytes", "bytearray")},
    **{
        f"{module}.{pure}{system}Path": make
        for module in ("pathlib", "pathlib._local")
        for pure in ("", "Pure")
        for system, make in (("Posix", _posix_path), ("Windows", _windows_path))
    },
}
