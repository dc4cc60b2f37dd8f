"""Writes the pickle of a flat state dict like ``torch.save``; ``torch.load(weights_only=True)`` reads it.

It is written opcode by opcode (protocol 2, torch's own), because pickling the real objects would need torch.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from convkit.checkpoint import Leaf, TensorSpec
from convkit.errors import ConvkitError
from convkit.formats.torch.pickle import INT_LIMIT, STORAGES

_CLASSES = {dtype: name for name, dtype in STORAGES.items()}

#: dtypes without a storage class of their own: an untyped storage beside the dtype (torch.storage._new_dtypes)
_UNTYPED = {
    "float8_e4m3fn",
    "float8_e5m2",
    "float8_e4m3fnuz",
    "float8_e5m2fnuz",
    "float8_e8m0fnu",
    "uint16",
    "uint32",
    "uint64",
}


def dump(leaves: Iterable[Leaf], storages: dict[str, str], path: Path) -> bytes:
    """The pickle of a dict from each leaf's key to its tensor or value.

    Args:
        leaves: in dict order.
        storages: key of each tensor -> name of its storage in the archive; tied tensors share a name.
        path: the file to name in errors.

    Raises:
        ConvkitError: a dtype or value that torch doesn't have.
    """
    out = bytearray(b"\x80\x02}(")
    for leaf in leaves:
        out += _text(leaf.key)
        out += _tensor(leaf, leaf.spec, storages[leaf.key], path) if leaf.spec else _value(leaf, path)
    return bytes(out + b"u.")


def _tensor(leaf: Leaf, spec: TensorSpec, storage: str, path: Path) -> bytes:
    """A call of torch._utils._rebuild_tensor_v2, or _v3 with the dtype as a further argument."""
    if spec.dtype in _CLASSES:
        rebuild, storage_class, numel = "_rebuild_tensor_v2", _global("torch", _CLASSES[spec.dtype]), spec.size
    elif spec.dtype in _UNTYPED:
        rebuild, storage_class, numel = "_rebuild_tensor_v3", _global("torch.storage", "UntypedStorage"), spec.nbytes
    else:
        raise ConvkitError(
            f"torch has no dtype {spec.dtype}",
            path=path,
            key=leaf.key,
            remedy=f"dtypes: {', '.join([*_CLASSES, *sorted(_UNTYPED)])}",
        )
    persistent = b"(" + _text("storage") + storage_class + _text(storage) + _text("cpu") + _integer(numel) + b"tQ"
    strides = [math.prod(spec.shape[axis + 1 :]) for axis in range(len(spec.shape))]
    no_hooks = _global("collections", "OrderedDict") + b")R"
    args = persistent + _integer(0) + _integers(spec.shape) + _integers(strides) + b"\x89" + no_hooks
    if spec.dtype in _UNTYPED:
        args += _global("torch", spec.dtype)
    return _global("torch._utils", rebuild) + b"(" + args + b"tR"


def _value(leaf: Leaf, path: Path) -> bytes:
    value: Any = leaf.value
    if value is None:
        return b"N"
    if isinstance(value, bool):
        return b"\x88" if value else b"\x89"
    if isinstance(value, int) and value.bit_length() < INT_LIMIT:
        return _integer(value)
    if isinstance(value, float):
        return b"G" + struct.pack(">d", value)
    if isinstance(value, str):
        return _text(value)
    if value in ([], {}):
        return b"]" if isinstance(value, list) else b"}"
    raise ConvkitError(
        f"a torch state dict can't hold a {type(value).__name__}", path=path, key=leaf.key, remedy="drop the key"
    )


def _global(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def _text(text: str) -> bytes:
    raw = text.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(raw)) + raw


def _integers(numbers: Iterable[int]) -> bytes:
    return b"(" + b"".join(map(_integer, numbers)) + b"t"


def _integer(number: int) -> bytes:
    if -(2**31) <= number < 2**31:
        return b"J" + struct.pack("<i", number)
    raw = number.to_bytes(number.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw
