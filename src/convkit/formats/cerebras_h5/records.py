"""The record of one leaf in a ``.mdl`` file: the JSON of its ``<leaf>.__metadata__`` attribute.

Source: cerebras-appliance 2.10 ``cerebras/appliance/storage/{context,serializers}.py`` and
cerebras-pytorch 2.10 ``cerebras/pytorch/storage/{save,serializers}.py``. A record is::

    {"__spec__": [template, treespec], "__objects__": [name], "<name>.__metadata__": {"__TYPE__": ...}}

where ``name`` is the leaf's own, except for objects that were saved nested in others.
"""

from __future__ import annotations

import json
from typing import Any

from msgspec import Struct

from convkit.checkpoint import Leaf, Opaque, TensorSpec, json_text
from convkit.errors import ConvkitError
from convkit.state.cerebras import treespec

#: dtype -> its number in the appliance's protocol (``rtfx_pb2.RtFxProto``). Other dtypes can't be saved there.
RTFX_DTYPES = {
    "bool": 1,
    "int16": 3,
    "int32": 4,
    "int64": 5,
    "uint8": 6,
    "uint16": 7,
    "uint32": 8,
    "uint64": 9,
    "float16": 10,
    "float32": 11,
    "float64": 12,
    "bfloat16": 15,
}
#: the format version that this module describes
VERSION = 0.5
#: the kind of an :class:`Opaque` in this format
PICKLE = "pickle"
_NO_DATA = {"__NONE__": True}


class Record(Struct, frozen=True):
    """A leaf's kind (the serializer's name), and the serializer's notes."""

    kind: str
    notes: dict[str, Any]


def loads(text: str) -> Record:
    """The record of one leaf.

    Raises:
        ConvkitError: an object of several parts (a traced graph), which only the framework can evaluate.
        ValueError, TypeError, KeyError: corrupt.
    """
    record = json_text.loads(text)
    objects = record["__objects__"]
    if len(objects) != 1:
        kinds = {notes["__TYPE__"] for name, notes in record.items() if name.endswith(".__metadata__")}
        raise ConvkitError(
            f"is an object of {len(objects)} parts ({', '.join(sorted(kinds))})",
            remedy="load and save the checkpoint with cerebras.pytorch, so that the values are stored",
        )
    notes = record[f"{objects[0]}.__metadata__"]
    return Record(notes["__TYPE__"], notes)


def value(record: Record) -> Any:
    """The value of a non-tensor leaf.

    Raises:
        ConvkitError: an unknown kind.
        ValueError, KeyError: corrupt.
    """
    if record.kind == "NoneSerializer":
        return None
    if record.kind == "ScalarSerializer":
        return checked(record.notes["scalar_value"], bool | int | float)
    if record.kind == "StringSerializer":
        return checked(record.notes["string_value"], str)
    raise ConvkitError(f"is of an unknown kind, {record.kind!r}", remedy="use a newer convkit")


def tensor_spec(record: Record) -> TensorSpec:
    """The spec in a torch tensor's record."""
    return _spec(record.notes["shapes"][0], record.notes["dtypes"][0])


def full_spec(record: Record) -> TensorSpec:
    """The spec in the record of a tensor of one repeated value."""
    return _spec(record.notes["shape"], record.notes["dtype"])


def stored_dtype(dtype: str) -> str:
    """The numpy dtype of a tensor's dataset: bfloat16 is stored as the bits of an int16."""
    return "int16" if dtype == "bfloat16" else dtype


def dumps(key: str, record: Record) -> str:
    """The attribute's text, as the original writes it."""
    spec = treespec.dict_of({key: treespec.LEAF})
    parts = {
        "__spec__": [treespec.template(spec), treespec.dumps(spec)],
        "__objects__": [key],
        f"{key}.__metadata__": record.notes,
    }
    return json.dumps(parts, indent=4)


def of_tensor(spec: TensorSpec, *, numpy: bool = False) -> Record:
    """The record of a tensor with data: a torch tensor, or a numpy array. Its notes are the dataset's attributes too.

    Raises:
        ConvkitError: a dtype without a number in the appliance's protocol.
    """
    if spec.dtype not in RTFX_DTYPES:
        raise ConvkitError(f"the format can't hold {spec.dtype}", remedy=f"cast it to one of {', '.join(RTFX_DTYPES)}")
    stored = {"__NUMPY__": True, "compressed": False}
    if numpy:
        kind = "NumpyArraySerializer"
        return Record(kind, {"is_bfloat16": spec.dtype == "bfloat16", "__TYPE__": kind, **stored})
    kind = "TorchTensorSerializer"
    notes = {
        "__TORCH__": True,
        "shapes": [spec.shape],
        "dtypes": [f"torch.{spec.dtype}"],
        "rtfx_dtypes": [RTFX_DTYPES[spec.dtype]],
    }
    return Record(kind, {**notes, "__TYPE__": kind, **stored})


def of_link(target: str) -> Record:
    """The record of a leaf that is the same object as another."""
    return Record("LinkedObject", {"key": target, "__LINKED__": True, "__TYPE__": "LinkedObject", **_NO_DATA})


def of_value(leaf: Leaf) -> Record:
    """The record of a non-tensor leaf.

    Raises:
        ConvkitError: a value that the format can't hold.
    """
    value = leaf.value
    if value is None:
        return Record("NoneSerializer", {"__TYPE__": "NoneSerializer", **_NO_DATA})
    if isinstance(value, bool | int | float):
        return Record("ScalarSerializer", {"scalar_value": value, "__TYPE__": "ScalarSerializer", **_NO_DATA})
    if isinstance(value, str):
        return Record("StringSerializer", {"string_value": value, "__TYPE__": "StringSerializer", **_NO_DATA})
    if isinstance(value, Opaque) and value.kind == PICKLE and value.data:
        return Record("ObjectSerializer", {"__TYPE__": "ObjectSerializer", "__BYTES__": True, "compressed": False})
    what = f"an object of kind {value.kind!r}" if isinstance(value, Opaque) else f"a {type(value).__name__} as a leaf"
    raise ConvkitError(f"the format can't hold {what}", remedy="leave it out, or store its items as leaves")


def _spec(shape: list[int], torch_dtype: str) -> TensorSpec:
    if not all(isinstance(length, int) and length >= 0 for length in shape):
        raise ValueError(f"its metadata says it has the shape {shape}")
    return TensorSpec(tuple(shape), torch_dtype.removeprefix("torch."))


def checked(value: Any, kind: Any) -> Any:
    """The value, checked to be of this kind.

    Raises:
        ValueError: it isn't.
    """
    if not isinstance(value, kind):
        raise ValueError(f"its metadata holds a {type(value).__name__} for a {kind}")
    return value
