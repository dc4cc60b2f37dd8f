"""Reads a torch pickle without unpickling it.

Names are looked up in a closed table of those that torch writes for tensors (torch 2.13, ``torch/_utils.py``,
``torch/storage.py``), see :mod:`convkit.state.pickle_machine`; any other name is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from convkit.checkpoint.tensors import ITEMSIZE
from convkit.errors import ConvkitError
from convkit.state.budget import DISTRUST, Budget
from convkit.state.pickle_machine import DATA, MORE_DATA, Name, PickleMachine

#: most levels of nested containers, against pickles that refer to themselves; how many nodes a pickle's containers may
#: hold together, see :mod:`convkit.state.budget`
DEPTH_LIMIT = 64
#: most characters of a dotted key
KEY_LIMIT = 4096

#: most bits of an integer: the limit of the pickle's own short form
INT_LIMIT = 8 * 255

_RESAVE = "load it with the program that wrote it, and save its state_dict alone"


@dataclass(frozen=True, slots=True)
class Storage:
    """A run of ``numel`` elements in the file under ``key``, or of bytes if ``dtype`` is None."""

    key: str
    dtype: str | None
    numel: int

    @property
    def nbytes(self) -> int:
        """Bytes of the whole run."""
        return self.numel * (ITEMSIZE[self.dtype] if self.dtype else 1)


@dataclass(frozen=True, slots=True)
class Tensor:
    """A strided view of a storage; offset and strides count elements of ``dtype``."""

    storage: Storage
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


#: class of a storage -> dtype of its elements (torch/storage.py)
STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
}
_STORAGE_CLASSES: dict[str, str | None] = {
    **{f"{module}.{name}": dtype for module in ("torch", "torch.cuda") for name, dtype in STORAGES.items()},
    "torch.storage.UntypedStorage": None,
}
_DTYPES = {f"torch.{dtype}": dtype for dtype in ITEMSIZE}


def load(pickle: bytes | BinaryIO, path: Path) -> tuple[Any, dict[str, Storage]]:
    """The data of one pickle (dicts, lists, tuples, scalars, :class:`Tensor`, :class:`Name`), and its storages.

    Args:
        pickle: bytes, or an opened file, whose position is then after the pickle's end.
        path: the file to name in errors.

    Raises:
        ConvkitError: the pickle would run code, or is corrupt.
    """
    try:
        machine = _Machine(path)
        return machine.run(pickle), machine.storages
    except (ValueError, IndexError, KeyError, TypeError, OverflowError) as error:
        raise ConvkitError(f"its pickle is corrupt: {error}", path=path, remedy="fetch the file again") from error


def flatten(data: Any, path: Path) -> Iterator[tuple[str, Any]]:
    """The tensors and scalars of nested dicts and lists, by dotted key.

    Raises:
        ConvkitError: too many leaves, nested too deep, or something that is neither data nor a tensor.
    """
    budget = Budget(path)

    def walk(key: str, item: Any, depth: int) -> Iterator[tuple[str, Any]]:
        if depth > DEPTH_LIMIT:
            problem = f"is nested deeper than {DEPTH_LIMIT} levels, the most that are read"
            raise ConvkitError(problem, path=path, key=key[:80], remedy=DISTRUST)
        if len(key) > KEY_LIMIT:
            problem = f"has a key of over {KEY_LIMIT} characters, the most that are read"
            raise ConvkitError(problem, path=path, key=key[:80], remedy=DISTRUST)
        budget.take(key, item if isinstance(item, str) else "")
        if isinstance(item, dict | list | tuple) and item:
            for name, inner in item.items() if isinstance(item, dict) else enumerate(item):
                yield from walk(f"{key}.{name}" if depth else str(name), inner, depth + 1)
            return
        if not _is_leaf(item):
            what = item.name if isinstance(item, Name) else f"a {type(item).__name__}"
            raise ConvkitError(f"is neither a tensor nor a small value but {what}", path=path, key=key, remedy=_RESAVE)
        yield key, item.name if isinstance(item, Name) else [] if item == () else item

    return walk("", data, 0)


def _is_leaf(item: Any) -> bool:
    if isinstance(item, Name):
        return item.name in _DTYPES
    if isinstance(item, int):
        return item.bit_length() < INT_LIMIT
    return not isinstance(item, bytes | Storage)


# The functions behind the names in the table: each turns its arguments into data, or returns None if torch wouldn't
# write them.


def _ordered_dict() -> dict[str | int, Any]:
    return {}


def _size(*items: Any) -> tuple[int, ...] | None:
    return items[0] if len(items) == 1 and _is_extent(items[0]) else None


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any) -> Tensor | None:
    dtype = (storage.dtype or "uint8") if isinstance(storage, Storage) else None
    return _typed_tensor(storage, offset, shape, strides, dtype)


def _tensor_v2(*items: Any) -> Tensor | None:
    if len(items) not in (6, 7) or (len(items) == 7 and not _is_plain(items[6])):
        return None
    return _tensor(*items[:4])


def _tensor_v3(*items: Any) -> Tensor | None:
    if len(items) not in (7, 8) or (len(items) == 8 and not _is_plain(items[7])):
        return None
    storage, offset, shape, strides, _, _, dtype, *_ = items
    return _typed_tensor(storage, offset, shape, strides, _DTYPES.get(dtype.name)) if isinstance(dtype, Name) else None


def _parameter(*items: Any) -> Tensor | None:
    return items[0] if len(items) == 3 and isinstance(items[0], Tensor) else None


def _typed_tensor(storage: Any, offset: Any, shape: Any, strides: Any, dtype: str | None) -> Tensor | None:
    if not isinstance(storage, Storage) or dtype is None or not _is_extent((offset,)):
        return None
    if not _is_extent(shape) or not _is_extent(strides) or len(shape) != len(strides):
        return None
    return Tensor(storage, dtype, offset, shape, strides)


def _is_extent(items: Any) -> bool:
    return isinstance(items, tuple) and all(type(item) is int and item >= 0 for item in items)


def _is_plain(metadata: Any) -> bool:
    """Whether no flag asks to conjugate or negate the stored elements (torch.Tensor.is_conj, is_neg)."""
    return metadata is None or (isinstance(metadata, dict) and not any(bit is not False for bit in metadata.values()))


_CALLS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _ordered_dict,
    "torch.Size": _size,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor_v2,
    "torch._utils._rebuild_tensor_v3": _tensor_v3,
    "torch._utils._rebuild_parameter": _parameter,
}


class _Machine(PickleMachine):
    """Makes data from torch's names and their arguments."""

    opcodes = DATA | MORE_DATA | {"REDUCE", "BUILD", "BINPERSID"}
    keys = (str, int)
    names = frozenset({*_CALLS, *_STORAGE_CLASSES, *_DTYPES})
    subject, never = "its pickle", "torch never writes for tensors"

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.storages: dict[str, Storage] = {}
        self._path = path

    def refusal(self, problem: str) -> ConvkitError:
        """See :meth:`PickleMachine.refusal`."""
        return ConvkitError(problem, path=self._path, remedy=_RESAVE)

    def _reduce(self) -> None:
        args, called = self._stack.pop(), self._stack.pop()
        call = _CALLS.get(called.name) if isinstance(called, Name) else None
        if call is None:
            raise self.refusal(
                f"its pickle calls {called.name if isinstance(called, Name) else 'something that is not a function'}"
            )
        result = call(*args) if isinstance(args, tuple) else None
        if result is None:
            raise self.refusal(f"its pickle calls {called.name} in an unknown way")
        self._stack.append(result)

    def _build(self) -> None:
        # torch sets module versions as an attribute of the state dict: not a leaf, left out
        state, target = self._stack.pop(), self._stack[-1]
        if not isinstance(target, dict) or not isinstance(state, dict):
            raise self.refusal("its pickle sets the state of an object")

    def _binpersid(self) -> None:
        match self._stack.pop():
            case ("storage", Name(name), str(key), str(), int(numel), *view) if (
                name in _STORAGE_CLASSES and numel >= 0 and view in ([], [None])
            ):
                storage = Storage(key, _STORAGE_CLASSES[name], numel)
                if self.storages.setdefault(key, storage) != storage:
                    raise ValueError("two storages of one name")
                self._stack.append(storage)
            case _:
                raise self.refusal("its pickle refers to something that isn't a whole storage")
