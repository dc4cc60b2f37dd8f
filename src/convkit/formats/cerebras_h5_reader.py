"""Reads ``.mdl`` 0.5 files: the index when they are opened, tensors slice by slice. Nothing is unpickled.

What stands in the file is checked here; HDF5's own structures only HDF5 can check, and it doesn't
check all: of 1500 files with random bytes struck, 5 crashed or hung HDF5 2.0 as it read an attribute.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convkit.checkpoint import Checkpoint, Leaf, Opaque
from convkit.errors import ConvkitError
from convkit.formats import cerebras_records as records
from convkit.formats.hdf5_arrays import Array, ChunkCache, FilledArray, open_array
from convkit.state import treespec
from convkit.tensors import TensorSpec, carrier, value_dtype

if TYPE_CHECKING:
    import h5py
    import numpy as np

_DAMAGED = "the file is damaged: fetch or make it again"
_ELSEWHERE = "load and save the checkpoint with cerebras.pytorch, so that it holds its own data"
#: what h5py and our own parsing raise where a file is damaged
_ERRORS = (OSError, KeyError, RuntimeError, ValueError, TypeError, AttributeError, IndexError)


class CerebrasCheckpoint(Checkpoint):
    """An opened ``.mdl`` file."""

    format = "cerebras-h5"

    def __init__(self, path: Path) -> None:
        import h5py
        import hdf5plugin  # noqa: F401 - registers the filters

        self.path = path
        self.leaves = {}
        self._arrays: dict[str, Array] = {}
        with _telling(path):
            self._file = h5py.File(path, "r", locking="best-effort")
        try:
            with _telling(path):
                self._index(dict(self._file.attrs))
        except BaseException:
            self.close()
            raise

    def read(self, key: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Elements ``[start, stop)``: only the chunks that hold them are decoded, in the calling thread."""
        array, spec = self._tensor(key)
        with _telling(self.path, key):
            return array.read(start, spec.size if stop is None else min(stop, spec.size))

    def view(self, key: str) -> np.ndarray | None:
        """The tensor, where it is stored contiguously."""
        return self._tensor(key)[0].view()

    def close(self) -> None:
        """Let go of the file; views into it live on."""
        self._file.close()

    def _tensor(self, key: str) -> tuple[Array, TensorSpec]:
        leaf = self.leaves.get(key)
        if leaf is None or leaf.spec is None:
            raise ConvkitError("holds no tensor of this name", path=self.path, key=key, remedy="see convkit inspect")
        return self._arrays[key], leaf.spec

    def _index(self, attributes: dict[str, Any]) -> None:
        tree = _tree(attributes)
        with self.path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        cache = ChunkCache()
        links: dict[str, str] = {}
        numpy_arrays: list[str] = []
        for key, node in treespec.terminals(tree):
            with _telling(self.path, key):
                if key in self.leaves:
                    raise ValueError("is the name of two leaves")
                # an entry for links too, for the order
                self.leaves[key] = Leaf(key, value=None if node.type is None else node.empty)
                if node.type is not None:
                    continue
                record = _record(attributes, key)
                match record.kind:
                    case "LinkedObject":
                        links[key] = record.notes["key"]
                    case "ObjectSerializer":
                        self.leaves[key] = Leaf(key, value=_object(self._file, key))
                    case "TorchTensorSerializer" | "NumpyArraySerializer" | "DeferredFullTensor":
                        spec, self._arrays[key] = _tensor(self._file, key, record, mapped, cache)
                        self.leaves[key] = Leaf(key, spec)
                        if record.kind == "NumpyArraySerializer":
                            numpy_arrays.append(key)
                    case _:
                        self.leaves[key] = Leaf(key, value=records.value(record))
        for key in links:
            with _telling(self.path, key):
                self._link(key, links)
        self.metadata = {
            "spec": treespec.dumps(tree),
            "numpy_arrays": numpy_arrays,
            "version": records.VERSION,
            "cstorch_version": attributes.get("__cstorch_version__"),
        }

    def _link(self, key: str, links: dict[str, str]) -> None:
        target = links[key]
        for _ in links:
            target = links.get(target, target)
        if target in links or target not in self.leaves:
            raise ValueError(f"is a link to {links[key]!r}, which isn't there")
        owner = self.leaves[target]
        self.leaves[key] = Leaf(key, owner.spec, owner.value, target if owner.spec else None)
        if owner.spec:
            self._arrays[key] = self._arrays[target]


class UnreadableObject(Opaque):
    """A serialized object whose bytes are damaged: says so when they are asked for, so that the rest can be read."""

    error: ConvkitError

    def __init__(self, kind: str, error: ConvkitError) -> None:
        object.__setattr__(self, "kind", kind)
        object.__setattr__(self, "error", error)

    @property
    def data(self) -> bytes:
        """Raises the error."""
        raise self.error

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.kind!r})"


def _tree(attributes: dict[str, Any]) -> treespec.Tree:
    """The structure, of a file that is complete and of our version."""
    if "__spec__" not in attributes:
        raise ConvkitError("is an HDF5 file without the attribute __spec__", remedy="name a Cerebras checkpoint")
    version = attributes.get("__version__")
    if version is None or version < records.VERSION:
        raise ConvkitError(
            f"is of format {version or '0.1'}, older than {records.VERSION}",
            remedy="load and save it with cerebras.pytorch 2.1 or later",
        )
    if version > records.VERSION:
        raise ConvkitError(f"is of format {version}, newer than {records.VERSION}", remedy="use a newer convkit")
    if not attributes.get("__SUCCESS__", False):
        raise ConvkitError("has no __SUCCESS__: whoever wrote it did not finish", remedy="fetch or make it again")
    _, text = json.loads(attributes["__spec__"])
    return treespec.loads(text)


def _record(attributes: dict[str, Any], key: str) -> records.Record:
    text = attributes.get(f"{key}.__metadata__")
    if text is None:
        raise ValueError("is in the spec, and has no metadata")
    record = records.loads(text)
    if "deferred_object_cls" in record.notes or record.kind in ("DeferredSafeTensor", "DeferredFileTensor"):
        where = record.notes.get("path", record.notes.get("filepath"))
        raise ConvkitError(f"its data lies in another file, {where!r}", remedy=_ELSEWHERE)
    return record


def _tensor(
    file: h5py.File, key: str, record: records.Record, mapped: mmap.mmap, cache: ChunkCache
) -> tuple[TensorSpec, Array]:
    """The tensor's spec, and the way to read it."""
    if record.kind == "DeferredFullTensor":
        return _filled(records.full_spec(record), record)
    dataset = _dataset(file, key)
    if dataset.shape is None:
        raise ValueError("its dataset holds no array")
    stored = dataset.dtype.newbyteorder("=").name
    if record.kind == "NumpyArraySerializer":
        spec = TensorSpec(dataset.shape, "bfloat16" if record.notes["is_bfloat16"] else stored)
    else:
        spec = records.tensor_spec(record)
    if spec.shape != dataset.shape:
        raise ValueError(f"its dataset has the shape {dataset.shape}, its metadata says {spec.shape}")
    if stored != records.stored_dtype(spec.dtype):
        raise ValueError(f"its dataset holds {stored}, its metadata says {spec.dtype}")
    return spec, open_array(dataset, carrier(spec.dtype), mapped, cache)


def _filled(spec: TensorSpec, record: records.Record) -> tuple[TensorSpec, Array]:
    """One value all over, in no dataset. Where there is none the original leaves memory as it finds it; here zero."""
    import numpy as np

    element = np.asarray(record.notes["fill_value"] or 0).astype(value_dtype(spec.dtype))
    return spec, FilledArray(element.view(carrier(spec.dtype)))


def _object(file: h5py.File, key: str) -> Opaque:
    """The pickled object's bytes."""
    try:
        return Opaque(_dataset(file, key).attrs["__BYTES__"].tobytes(), records.PICKLE)
    except _ERRORS as error:
        problem = f"the serialized object can't be read: {error}"
        return UnreadableObject(records.PICKLE, ConvkitError(problem, path=file.filename, key=key, remedy=_DAMAGED))


def _dataset(file: h5py.File, key: str) -> h5py.Dataset:
    """The dataset of that name in this file: links, which could lead into any other, are not followed."""
    import h5py

    path = ""
    for part in filter(None, key.split("/")):
        path += f"/{part}"
        link = file.get(path, getlink=True)
        if link is None:
            raise ValueError("is in the spec, and has no dataset")
        if not isinstance(link, h5py.HardLink):
            raise ValueError("its dataset is a link")
    found = file[key]
    if not isinstance(found, h5py.Dataset):
        raise ValueError("is in the spec, and has no dataset")
    return found


@contextmanager
def _telling(path: Path, key: str | None = None) -> Iterator[None]:
    """Errors name file and key."""
    try:
        yield
    except ConvkitError as error:
        raise ConvkitError(error.problem, path=path, key=error.key or key, remedy=error.remedy) from error
    except _ERRORS as error:
        # the ValueErrors are ours, and say all
        problem = str(error) if isinstance(error, ValueError) else f"can't be read: {error}"
        raise ConvkitError(problem, path=path, key=key, remedy=_DAMAGED) from error
