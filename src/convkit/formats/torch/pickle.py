"""Reads a torch pickle without unpickling it.

Names are looked up in a closed table of those that torch writes for tensors (torch 2.13, ``torch/_utils.py``,
``torch/storage.py``) and of plain data beside them (:mod:`convkit.formats.torch.objects`), see
:mod:`convkit.state.pickle_machine`. Whatever any other name makes is an :class:`UnknownObject`: a leaf of its own,
whose content isn't kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from convkit.checkpoint import Opaque, UnknownObject
from convkit.checkpoint.tensors import ITEMSIZE
from convkit.errors import ConvkitError
from convkit.formats.torch import objects
from convkit.formats.torch.objects import Array, Dtype, Items, is_extent, unknown, unknown_call
from convkit.state.budget import DISTRUST, Budget
from convkit.state.pickle_machine import BYTES_LIMIT, DATA, MORE_DATA, OBJECTS, Name, PickleMachine

#: most levels of nested containers, against pickles that refer to themselves; how many nodes a pickle's containers may
#: hold together, see :mod:`convkit.state.budget`
DEPTH_LIMIT = 64
#: most characters of a dotted key
KEY_LIMIT = 4096

#: most bits of an integer: the limit of the pickle's own short form
INT_LIMIT = 8 * 255

#: most names in one pickle: the pickler of Python writes each once, and files have a few dozen
NAMES_LIMIT = 1 << 12
#: most objects that one pickle makes by calls, and sets: a parameter takes four, so this is a quarter of a million of
#: them. Each takes ten microseconds, three times as long as other opcodes
OBJECTS_LIMIT = 1 << 20
#: most bytes, characters and items that the arguments of all calls hold together: a pickle can hand one long text to a
#: million calls, each of which copies it. Of a file that doesn't, they are fewer than its bytes
CALLS_LIMIT = BYTES_LIMIT

_RESAVE = "load it with the program that wrote it, and save its state_dict alone"


class _OtherKeys:
    """The key of what stands for all entries of a dict whose keys are neither texts nor integers."""

    def __str__(self) -> str:
        return "(other keys)"


_OTHER_KEYS = _OtherKeys()


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
    """The data of one pickle (dicts, lists, tuples, scalars, tensors, arrays, unknown objects), and its storages.

    Args:
        pickle: bytes, or an opened file, whose position is then after the pickle's end.
        path: the file to name in errors.

    Raises:
        ConvkitError: the pickle does what no writer does, or is corrupt.
    """
    try:
        machine = _Machine(path)
        return machine.run(pickle), machine.storages
    except (ValueError, IndexError, KeyError, TypeError, OverflowError) as error:
        raise ConvkitError(f"its pickle is corrupt: {error}", path=path, remedy="fetch the file again") from error


def flatten(data: Any, path: Path) -> Iterator[tuple[str, Any]]:
    """The tensors (:class:`Tensor`, :class:`Array`) and values of nested dicts and lists, by dotted key.

    Raises:
        ConvkitError: too many leaves, or nested too deep.
    """
    budget = Budget(path)

    def walk(key: str, item: Any, depth: int) -> Iterator[tuple[str, Any]]:
        if depth > DEPTH_LIMIT:
            problem = f"is nested deeper than {DEPTH_LIMIT} levels, the most that are read"
            raise ConvkitError(problem, path=path, key=key[:80], remedy=DISTRUST)
        if len(key) > KEY_LIMIT:
            problem = f"has a key of over {KEY_LIMIT} characters, the most that are read"
            raise ConvkitError(problem, path=path, key=key[:80], remedy=DISTRUST)
        budget.take(key, item if isinstance(item, str | bytes | bytearray) else "")
        if isinstance(item, Items):
            item = item.in_order()
        if isinstance(item, dict | list | tuple) and item:
            for name, inner in item.items() if isinstance(item, dict) else enumerate(item):
                yield from walk(f"{key}.{name}" if depth else str(name), inner, depth + 1)
            return
        yield key, _leaf(item)

    return walk("", data, 0)


def kind_of(item: Any) -> str:
    """What to call an object that isn't a container."""
    found = _leaf(item)
    return found.kind if isinstance(found, UnknownObject | Opaque) else type(found).__name__


def _leaf(item: Any) -> Any:
    """A tensor, or a value as :class:`convkit.checkpoint.Leaf` holds it."""
    match item:
        case Name(name):
            return name if name in _DTYPES else unknown(name)
        case ():
            return []
        case bytes() | bytearray():
            return Opaque(bytes(item), "bytes")
        case Storage():
            return unknown("torch storage")
        case Dtype():
            return f"numpy.{item.name}" if item.name else unknown("numpy.dtype")
        case Array(dtype=None):
            return unknown("numpy.ndarray")
        case int() if item.bit_length() >= INT_LIMIT:
            return unknown(f"int of {item.bit_length()} bits")
        case _:
            return item


# The functions behind the names in the table: each turns its arguments into data, or returns None if torch wouldn't
# write them.


def _ordered_dict() -> dict[str | int, Any]:
    return {}


def _size(*items: Any) -> tuple[int, ...] | None:
    return items[0] if len(items) == 1 and is_extent(items[0]) else None


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any) -> Tensor | None:
    dtype = (storage.dtype or "uint8") if isinstance(storage, Storage) else None
    return _typed_tensor(storage, offset, shape, strides, dtype)


def _tensor_v2(*items: Any) -> Tensor | UnknownObject | None:
    if len(items) not in (6, 7):
        return None
    return _flagged(items[6]) if len(items) == 7 and _flagged(items[6]) else _tensor(*items[:4])


def _tensor_v3(*items: Any) -> Tensor | UnknownObject | None:
    if len(items) not in (7, 8):
        return None
    storage, offset, shape, strides, _, _, dtype, *metadata = items
    if not isinstance(dtype, Name):
        return None
    if dtype.name not in _DTYPES:
        return unknown(f"tensor of dtype {dtype.name}")
    changed = _flagged(metadata[0]) if metadata else None
    return changed or _typed_tensor(storage, offset, shape, strides, _DTYPES[dtype.name])


def _parameter(*items: Any) -> Tensor | None:
    return items[0] if len(items) == 3 and isinstance(items[0], Tensor) else None


def _parameter_with_state(*items: Any) -> Tensor | None:
    # attributes that a program gave it: not a leaf, left out, as those of a state dict
    return items[0] if len(items) == 4 and isinstance(items[0], Tensor) else None


def _typed_tensor(storage: Any, offset: Any, shape: Any, strides: Any, dtype: str | None) -> Tensor | None:
    if not isinstance(storage, Storage) or dtype is None or not is_extent((offset,)):
        return None
    if not is_extent(shape) or not is_extent(strides) or len(shape) != len(strides):
        return None
    return Tensor(storage, dtype, offset, shape, strides)


def _flagged(metadata: Any) -> UnknownObject | None:
    """A tensor whose stored elements are to be conjugated or negated (torch.Tensor.is_conj, is_neg)."""
    flags = [str(name) for name, bit in metadata.items() if bit is not False] if isinstance(metadata, dict) else []
    return unknown(f"lazily changed tensor ({', '.join(flags)})") if flags else None


_CALLS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _ordered_dict,
    "torch.Size": _size,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor_v2,
    "torch._utils._rebuild_tensor_v3": _tensor_v3,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter_with_state,
    **objects.CALLS,
}


class _Machine(PickleMachine):
    """Makes data from known names and their arguments, and unknown objects from all others."""

    opcodes = DATA | MORE_DATA | OBJECTS
    keys = (str, int)
    names = None
    subject, never = "its pickle", "torch never writes for tensors"

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.storages: dict[str, Storage] = {}
        self._path = path
        self._names = 0
        self._objects = 0
        self._handed = 0

    def refusal(self, problem: str) -> ConvkitError:
        """See :meth:`PickleMachine.refusal`."""
        return ConvkitError(problem, path=self._path, remedy=_RESAVE)

    def _odd_key(self, target: dict[Any, Any], key: Any) -> None:
        target[_OTHER_KEYS] = unknown(f"entries with keys of type {type(key).__name__}")

    def _set(self, items: list[Any]) -> None:
        if not isinstance(self._stack[-1], UnknownObject):
            super()._set(items)

    def _extend(self, items: list[Any]) -> None:
        if not isinstance(self._stack[-1], UnknownObject):
            super()._extend(items)

    def _name(self, name: str) -> None:
        self._names += 1
        if self._names > NAMES_LIMIT:
            raise self.refusal(f"its pickle has over {NAMES_LIMIT} names, the most that are read")
        super()._name(name)

    def _count(self) -> None:
        self._objects += 1
        if self._objects > OBJECTS_LIMIT:
            raise self.refusal(f"its pickle makes over {OBJECTS_LIMIT} objects, the most that are read")

    def _pop_mark(self) -> None:
        self._since_mark()

    def _empty_set(self) -> None:
        self._count()
        self._stack.append(Items())

    def _additems(self) -> None:
        self._extend(self._since_mark())

    def _frozenset(self) -> None:
        self._count()
        self._stack.append(Items(self._since_mark()))

    def _newobj(self) -> None:
        self._count()
        self._stack.pop()
        match self._stack.pop():
            case Name(name):
                self._stack.append(unknown(name))
            case UnknownObject() as made:
                self._stack.append(made)
            case _:
                raise self.refusal("its pickle makes something that is not of a class")

    def _newobj_ex(self) -> None:
        self._stack.pop()
        self._newobj()

    def _reduce(self) -> None:
        self._count()
        args, called = self._stack.pop(), self._stack.pop()
        if not isinstance(args, tuple) or not isinstance(called, Name | UnknownObject):
            what = (
                "calls something that is not a function"
                if isinstance(args, tuple)
                else "makes a call without arguments"
            )
            raise self.refusal(f"its pickle {what}")
        self._stack.append(called if isinstance(called, UnknownObject) else self._made(called.name, args))

    def _made(self, called: str, args: tuple[Any, ...]) -> Any:
        call = _CALLS.get(called)
        if call is None:
            return unknown_call(called, args)
        self._handed += sum(len(item) for item in args if isinstance(item, str | bytes | bytearray | list | tuple))
        if self._handed > CALLS_LIMIT:
            raise self.refusal(f"its pickle hands over {CALLS_LIMIT} bytes to functions, the most that are read")
        result = call(*args)
        if result is None:
            # a tensor over a storage of an unknown class, for instance
            result = next((item for item in args if isinstance(item, UnknownObject)), None)
        if result is None:
            raise self.refusal(f"its pickle calls {called} in an unknown way")
        return result

    def _build(self) -> None:
        # torch sets module versions as an attribute of the state dict: not a leaf, left out
        state, target = self._stack.pop(), self._stack[-1]
        if isinstance(target, Array | Dtype):
            target.build(state)
        elif not isinstance(target, dict | UnknownObject):
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
            case (str(), Name(name), *_) if name not in _STORAGE_CLASSES:  # a storage, or a class with its source
                self._stack.append(unknown(name))
            case _:
                raise self.refusal("its pickle refers to something that isn't a whole storage")
