"""Writes ``.mdl`` files like Cerebras releases 1.7 to 2.0 (formats 0.1 to 0.4), for demonstrations and tests.

No file of those releases is public. These follow the code that reads them: cerebras-pytorch 2.10
``cerebras/pytorch/storage/_legacy``, ModelZoo release 2.0.2 ``compat/fix_checkpoint_spec.py``.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np

from convkit.checkpoint import Opaque

if TYPE_CHECKING:
    import h5py

#: release -> the version that its files state; 1.7 states none
VERSIONS = {"1.7": None, "1.8": 0.2, "1.9": 0.3, "2.0": 0.4}

_PYTREE = "torch.utils._pytree"


class TensorScalarDict(dict[str, Any]):
    """Release 1.7's class for the optimizer state of a parameter."""


_CLASSES: dict[type, tuple[str, str]] = {
    TensorScalarDict: ("cerebras_pytorch.utils.tensor_scalar_dict", "TensorScalarDict"),
    OrderedDict: ("collections", "OrderedDict"),
    **{kind: ("__builtin__", kind.__name__) for kind in (dict, list, tuple)},
}


def write_old(path: Path, state: dict[str, Any], release: str, left_out: Collection[str] = ()) -> None:
    """Write a state: nested dicts, lists and tuples of numpy arrays, numbers, strings, None and pickled objects.

    Args:
        path: the file to make.
        state: bfloat16 arrays have ml_dtypes' dtype.
        release: one of :data:`VERSIONS`.
        left_out: names of tied tensors that are in the spec and get no data.
    """
    import h5py

    version = VERSIONS[release]
    with h5py.File(path, "w") as file:
        file.attrs["__spec__"] = pickled_spec(state).hex()
        if version is not None:
            file.attrs["__version__"] = version
        for key, value in flatten(state):
            if key not in left_out:
                _write(file, quote(key, safe=""), value, named=version is not None and version > 0.2)


def flatten(state: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """The leaves by name."""
    if isinstance(state, dict | list | tuple):
        for name, inner in state.items() if isinstance(state, dict) else enumerate(state):
            yield from flatten(inner, (*path, str(name)))
    else:
        yield ".".join(path), state


def pickled_spec(state: Any) -> bytes:
    """The tree spec in the pickle of torch 1.13's classes (protocol 2), made without torch."""
    return b"\x80\x02" + _spec(state) + b"."


def _spec(node: Any) -> bytes:
    if type(node) not in _CLASSES:
        return _object("LeafSpec", b"N", b"N", b"]")
    keyed = isinstance(node, dict)
    context = _list(map(_literal, node)) if keyed else b"N"
    children = _list(map(_spec, node.values() if keyed else node))
    return _object("TreeSpec", _name(*_CLASSES[type(node)]), context, children)


def _object(name: str, kind: bytes, context: bytes, children: bytes) -> bytes:
    fields = (("type", kind), ("context", context), ("children_specs", children))
    return _name(_PYTREE, name) + b")\x81}(" + b"".join(_literal(name) + value for name, value in fields) + b"ub"


def _list(items: Iterable[bytes]) -> bytes:
    return b"](" + b"".join(items) + b"e"


def _name(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def _literal(value: str | int) -> bytes:
    if isinstance(value, int):
        raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
        return b"\x8a" + bytes([len(raw)]) + raw
    text = value.encode()
    return b"X" + struct.pack("<I", len(text)) + text


def _write(file: h5py.File, name: str, value: Any, *, named: bool) -> None:
    """Write one dataset; its kind is a class's name, or a flag."""
    import h5py
    import hdf5plugin

    match value:
        case np.ndarray():
            is_bfloat16 = value.dtype.name == "bfloat16"
            filters = dict(hdf5plugin.LZ4()) if value.ndim and value.size else {}
            dataset = file.create_dataset(name, data=value.view("int16") if is_bfloat16 else value, **filters)
            dataset.attrs["is_bfloat16"] = is_bfloat16
            kind, flag = "TorchTensorH5Type", None
        case None:
            dataset = file.create_dataset(name, data=h5py.Empty("f"))
            kind, flag = "NoneH5Type", "is_none"
        case str():
            dataset = file.create_dataset(name, data=h5py.Empty("f"))
            dataset.attrs["string_value" if named else "string_val"] = value
            kind, flag = "StringH5Type", "is_string"
        case Opaque():
            dataset = file.create_dataset(name, data=h5py.Empty("f"))
            dataset.attrs["object_value"] = value.data.hex()
            kind, flag = "ObjectH5Type", None
        case _:
            dataset = file.create_dataset(name, data=value)
            kind, flag = "ScalarH5Type", "is_scalar"
    if named:
        dataset.attrs["__H5_TYPE__"] = kind
    elif flag:
        dataset.attrs[flag] = True
