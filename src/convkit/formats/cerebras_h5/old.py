"""Reads ``.mdl`` files before format 0.5, where each leaf is a dataset whose attributes give its kind.

Releases up to 1.8 (formats 0.1, 0.2) set flags (``is_scalar``, ``is_none``, ``is_string``,
``is_constructible``), later ones (0.3, 0.4) name a class in ``__H5_TYPE__``. Dataset names are url-quoted. The
structure is a pickled tree spec, see :mod:`convkit.state.cerebras.pickled_treespec`. Source:
cerebras-pytorch 2.10 ``cerebras/pytorch/storage/_legacy/{checkpoint_reader,pt_h5_saver,storage}.py``,
cerebras-appliance 2.10 ``cerebras/appliance/saver/h5_saver.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

import numpy as np

from convkit.checkpoint import Leaf, Opaque, TensorSpec
from convkit.checkpoint.tensors import value_dtype
from convkit.errors import ConvkitError
from convkit.formats.cerebras_h5 import records
from convkit.formats.cerebras_h5.entries import ELSEWHERE, Datasets, Entry, elsewhere, filled
from convkit.state.cerebras.tied_copies import stored_copy

if TYPE_CHECKING:
    import h5py

#: format -> the release that wrote it, if the file doesn't say (``CkptVersion.from_file``)
RELEASES = {0.1: "1.7", 0.2: "1.8", 0.3: "1.9", 0.4: "2.0"}
#: a file without a version
FIRST = 0.1
#: up to this format torch tensors were stored as if they were numpy arrays
_TENSORS_AS_ARRAYS = 0.3

#: earlier names of the same kinds
_SAME = {
    "StoredTensorH5Type": "TorchTensorH5Type",
    "FullTensorH5Type": "DeferredFullTensor",
    "StoredApplianceTensorH5Type": "DeferredFileTensor",
}
#: the flags of releases up to 1.8, in the order in which they are checked, and the kinds that they became
_FLAGS = {
    "is_constructible": "DeferredFullTensor",
    "is_none": "NoneH5Type",
    "is_string": "StringH5Type",
    "is_scalar": "ScalarH5Type",
}


class OldEntries:
    """The entries of an opened file of an older format, by leaf name."""

    def __init__(self, file: h5py.File, datasets: Datasets, version: float) -> None:
        self._datasets = datasets
        self._version = version
        self._stored = frozenset(unquote(name) for name in file)
        self._first: dict[int, str] = {}
        #: tied copies without a dataset of their own
        self.left_out: Sequence[str] = []

    def entry(self, key: str) -> Entry:
        """The entry of a name in the spec. Two names of one dataset are one tensor, and so are copies that were left
        out.

        Raises:
            ConvkitError: not stored, and not a copy that the releases are known to have left out; or data elsewhere.
            ValueError, KeyError: corrupt.
        """
        if key not in self._stored:
            copy = stored_copy(key, self._stored)
            if copy is None:
                raise ConvkitError(
                    "is in the spec and not in the file, and no copy of it is known",
                    remedy="save the checkpoint again where it was made",
                )
            self.left_out = [*self.left_out, key]
            return Entry(Leaf(key), link=copy)
        name = quote(key, safe="")
        dataset = self._datasets.find(name)
        first = self._first.setdefault(_address(dataset), key)
        if first != key:
            return Entry(Leaf(key), link=first)
        return self._read(key, name, dataset)

    def _read(self, key: str, name: str, dataset: h5py.Dataset) -> Entry:
        attributes = dict(dataset.attrs)
        match _kind(attributes):
            case "TorchTensorH5Type" | "NumpyArrayH5Type" as kind:
                numpy = kind == "NumpyArrayH5Type" and self._version > _TENSORS_AS_ARRAYS
                is_bfloat16 = bool(attributes.get("is_bfloat16", False))
                return self._datasets.tensor(key, name, None, numpy=numpy, is_bfloat16=is_bfloat16)
            case "DeferredFullTensor":
                return filled(key, _full_spec(dataset, attributes), attributes.get("fill_value"))
            case "ScalarH5Type":
                return Entry(Leaf(key, value=_scalar(dataset, attributes)))
            case "StringH5Type":
                return Entry(Leaf(key, value=_text(attributes.get("string_value", attributes.get("string_val")))))
            case "NoneH5Type":
                return Entry(Leaf(key))
            case "ObjectH5Type":
                return Entry(Leaf(key, value=Opaque(bytes.fromhex(attributes["object_value"]), records.PICKLE)))
            case "DeferredH5Tensor" if attributes.get("link_to_self", False):
                return Entry(Leaf(key), link=unquote(_text(attributes["key"])))
            case "DeferredH5Tensor" | "DeferredFileTensor":
                raise elsewhere(attributes.get("filepath"))
            case "DeferredGraphTensor":
                raise ConvkitError("is a traced graph, not a tensor", remedy=ELSEWHERE)
            case kind:
                raise ConvkitError(f"is of an unknown kind, {kind!r}", remedy="use a newer convkit")


def _kind(attributes: dict[str, Any]) -> str:
    """The class, or its equivalent in the flags of releases up to 1.8 (``_load_tensor_from_checkpoint``)."""
    named = attributes.get("__H5_TYPE__")
    if named is not None:
        return _SAME.get(named, named)
    if "filepath" in attributes:
        return "DeferredFileTensor"
    return next((kind for flag, kind in _FLAGS.items() if attributes.get(flag, False)), "TorchTensorH5Type")


def _full_spec(dataset: h5py.Dataset, attributes: dict[str, Any]) -> TensorSpec:
    dtype = "bfloat16" if attributes.get("is_bfloat16", False) else dataset.dtype.newbyteorder("=").name
    return TensorSpec(tuple(int(length) for length in attributes["shape"]), dtype)


def _scalar(dataset: h5py.Dataset, attributes: dict[str, Any]) -> Any:
    import hdf5plugin  # noqa: F401 - registers the filters

    if dataset.shape is None or dataset.size != 1:
        raise ValueError(f"is a number, and its dataset has the shape {dataset.shape}")
    stored = np.asarray(dataset[()]).reshape(())
    if attributes.get("is_bfloat16", False):
        return float(stored.view(value_dtype("bfloat16")))
    return records.checked(stored.item(), bool | int | float)


def _text(value: Any) -> str:
    return records.checked(value.decode() if isinstance(value, bytes) else value, str)


def _address(dataset: h5py.Dataset) -> int:
    """The dataset's address in the file, the same for all its names."""
    import h5py

    return h5py.h5o.get_info(dataset.id).addr
