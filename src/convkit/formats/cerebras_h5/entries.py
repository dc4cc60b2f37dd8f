"""The entries of a ``.mdl`` file of any version, and access to its datasets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from msgspec import Struct

from convkit.checkpoint import Leaf, TensorSpec
from convkit.checkpoint.source_files import SourceFiles
from convkit.checkpoint.tensors import carrier, check_unstored, value_dtype
from convkit.errors import ConvkitError
from convkit.formats.cerebras_h5 import records
from convkit.formats.cerebras_h5.arrays import Array, ChunkCache, FilledArray, RawBytes, open_array

if TYPE_CHECKING:
    import h5py

DAMAGED = "the file is damaged: fetch or make it again"
ELSEWHERE = "load and save the checkpoint with cerebras.pytorch, so that it holds its own data"
#: what h5py and our own parsing raise for a damaged file
ERRORS = (OSError, KeyError, RuntimeError, ValueError, TypeError, AttributeError, IndexError)


class Entry(Struct, frozen=True):
    """A leaf, with a reader if it is a tensor; or an alias of another leaf. ``numpy`` marks a leaf that loads as a
    numpy array, ``dataset`` names the dataset with a tensor's data.
    """

    leaf: Leaf
    array: Array | None = None
    numpy: bool = False
    dataset: str | None = None
    link: str | None = None


class Datasets:
    """The datasets of one opened file."""

    def __init__(self, file: h5py.File, path: Path) -> None:
        self.path = path
        self._file = file
        self._bytes = RawBytes(SourceFiles(), path, path.stat().st_size)
        self._cache = ChunkCache()

    def find(self, name: str) -> h5py.Dataset:
        """The dataset of this name in this file; links aren't followed, as they could lead into any other file.

        Raises:
            ValueError: there is no such dataset.
        """
        import h5py

        path = ""
        for part in filter(None, name.split("/")):
            path += f"/{part}"
            link = self._file.get(path, getlink=True)
            if link is None:
                raise ValueError("is in the spec, and has no dataset")
            if not isinstance(link, h5py.HardLink):
                raise ValueError("its dataset is a link")
        found = self._file[name]
        if not isinstance(found, h5py.Dataset):
            raise ValueError("is in the spec, and has no dataset")
        return found

    def tensor(self, key: str, name: str, spec: TensorSpec | None, *, numpy: bool, is_bfloat16: bool = False) -> Entry:
        """The tensor in a dataset, with the given spec, or if None with the dataset's own.

        Raises:
            ValueError: the dataset has another shape or dtype.
        """
        dataset = self.find(name)
        if dataset.shape is None:
            raise ValueError("its dataset holds no array")
        stored = dataset.dtype.newbyteorder("=").name
        if spec is None:
            spec = TensorSpec(dataset.shape, "bfloat16" if is_bfloat16 else stored)
        if spec.shape != dataset.shape:
            raise ValueError(f"its dataset has the shape {dataset.shape}, its metadata says {spec.shape}")
        if stored != records.stored_dtype(spec.dtype):
            raise ValueError(f"its dataset holds {stored}, its metadata says {spec.dtype}")
        check_unstored(spec.nbytes, dataset.id.get_storage_size())
        array = open_array(dataset, carrier(spec.dtype), self._bytes, self._cache)
        return Entry(Leaf(key, spec), array, numpy, name)


def filled(key: str, spec: TensorSpec, fill: Any) -> Entry:
    """A tensor of one repeated value, without a dataset; 0 where the original leaves memory uninitialised.

    Raises:
        ConvkitError: larger than such a tensor may be.
    """
    check_unstored(spec.nbytes, 0)
    element = np.asarray(fill or 0).astype(value_dtype(spec.dtype))
    return Entry(Leaf(key, spec), FilledArray(element.view(carrier(spec.dtype))))


def elsewhere(where: Any) -> ConvkitError:
    """The error for a tensor whose data isn't in the checkpoint."""
    return ConvkitError(f"its data lies in another file, {where!r}", remedy=ELSEWHERE)
