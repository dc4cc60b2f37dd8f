"""``cerebras-h5``: the ``.mdl`` checkpoints of cerebras.pytorch, format 0.5, in HDF5.

A state dict is flattened; each tensor is a dataset named after its leaf, LZ4 in chunks; what a leaf
is, and every small value, stands in a JSON attribute of the root group. The structure stands in
``__spec__``; ``__SUCCESS__`` is written last. Source: cerebras-pytorch 2.10
``cerebras/pytorch/storage/{save,load}.py``, cerebras-appliance 2.10 ``storage/h5_storage.py``.

``metadata`` holds ``spec`` (the text of the tree spec: container types, int keys), ``version``,
``cstorch_version``, and ``numpy_arrays`` (the keys that load as numpy arrays, not torch tensors);
handed on to :meth:`CerebrasH5.create` as ``options.metadata`` it gives the same structure back.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convkit.checkpoint import Checkpoint, Format, Leaf, Opaque, WriteOptions, Writer
from convkit.errors import ConvkitError
from convkit.formats import cerebras_records as records
from convkit.formats.hdf5_arrays import Array, ChunkCache, FilledArray, open_array
from convkit.state import treespec
from convkit.tensors import TensorSpec, carrier, value_dtype

if TYPE_CHECKING:
    import h5py
    import numpy as np

VERSION = 0.5
_MAGIC = b"\x89HDF\r\n\x1a\n"
_DAMAGED = "the file is damaged: fetch or make it again"
#: what h5py raises where a file is damaged, and what our own parsing does
_ERRORS = (OSError, KeyError, RuntimeError, ValueError, TypeError, AttributeError, RecursionError)


class CerebrasH5(Format):
    """The format."""

    name = "cerebras-h5"
    folder = False
    ties = True
    summary = "Cerebras .mdl: HDF5, LZ4 chunks, format 0.5 (cerebras.pytorch 2.1 to 2.10)"

    def detect(self, path: Path) -> str | None:
        """An HDF5 file that is called ``.mdl`` or holds a tree spec."""
        if not path.is_file():
            return None
        with path.open("rb") as file:
            if file.read(len(_MAGIC)) != _MAGIC:
                return None
        if path.suffix == ".mdl":
            return "an HDF5 file called .mdl"
        import h5py

        try:
            with h5py.File(path, "r", locking="best-effort") as opened:
                return "an HDF5 file with the attribute __spec__" if "__spec__" in opened.attrs else None
        except OSError:
            return None

    def open(self, path: Path) -> Checkpoint:
        """Open a ``.mdl`` file.

        Raises:
            ConvkitError: truncated, corrupt, incomplete, of another version, or with data in other files.
        """
        return CerebrasCheckpoint(path)

    def create(self, path: Path, leaves: Sequence[Leaf], options: WriteOptions, *, resume: bool = False) -> Writer:
        """Lay out a new ``.mdl`` file; ``options.metadata`` may hold ``spec`` and ``numpy_arrays`` (see above).

        Raises:
            ConvkitError: a leaf that the format can't hold, or a spec of other leaves.
        """
        from convkit.formats.cerebras_h5_writer import CerebrasWriter

        return CerebrasWriter(path, leaves, options, resume=resume)


class CerebrasCheckpoint(Checkpoint):
    """An opened ``.mdl`` file."""

    format = CerebrasH5.name

    def __init__(self, path: Path) -> None:
        import h5py
        import hdf5plugin  # noqa: F401 - registers the filters

        self.path = path
        self.leaves = {}
        self._arrays: dict[str, Array] = {}
        with _telling(path, remedy="not a whole HDF5 file: fetch or make it again"):
            self._file = h5py.File(path, "r", locking="best-effort")
        try:
            with _telling(path):
                self._index()
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

    def _index(self) -> None:
        attributes = dict(self._file.attrs)
        tree = _spec(attributes)
        with self.path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        cache = ChunkCache()
        links: dict[str, str] = {}
        numpy_arrays: list[str] = []
        for key, node in treespec.terminals(tree):
            if key in self.leaves or key in links:
                raise ConvkitError("two leaves have this name", path=self.path, key=key, remedy=_DAMAGED)
            with _telling(self.path, key):
                if node.type is not None:
                    self.leaves[key] = Leaf(key, value=node.empty)
                    continue
                text = attributes.get(f"{key}.__metadata__")
                if text is None:
                    raise ValueError("is in the spec, and has no metadata")
                record = records.loads(key, text)
                # Kept in place for the order; what it names may come later.
                self.leaves[key] = Leaf(key)
                if record.kind == "LinkedObject":
                    links[key] = record.notes["key"]
                    continue
                self.leaves[key] = _leaf(key, record, self._file)
                spec = self.leaves[key].spec
                if spec is None:
                    continue
                if record.kind == "DeferredFullTensor":
                    self._arrays[key] = _filled(spec, record)
                    continue
                self._arrays[key] = open_array(_dataset(self._file, key), carrier(spec.dtype), mapped, cache)
                if record.kind == "NumpyArraySerializer":
                    numpy_arrays.append(key)
        for key in links:
            self._link(key, links)
        self.metadata = {
            "spec": treespec.dumps(tree),
            "version": VERSION,
            "cstorch_version": attributes.get("__cstorch_version__"),
            "numpy_arrays": numpy_arrays,
        }

    def _link(self, key: str, links: dict[str, str]) -> None:
        target, steps = links[key], 0
        while target in links and steps < len(links):
            target, steps = links[target], steps + 1
        if target in links or target not in self.leaves:
            raise ConvkitError(f"is a link to {target!r}, which isn't there", path=self.path, key=key, remedy=_DAMAGED)
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


def _spec(attributes: dict[str, Any]) -> treespec.Tree:
    version = attributes.get("__version__")
    if "__spec__" not in attributes:
        raise ConvkitError("is an HDF5 file without the attribute __spec__", remedy="name a Cerebras checkpoint")
    if version is None or version < VERSION:
        raise ConvkitError(
            f"is of format {version or 'before 0.2'}, which isn't read yet",
            remedy="load and save it with cerebras.pytorch 2.1 or later",
        )
    if version > VERSION:
        raise ConvkitError(f"is of format {version}, newer than {VERSION}", remedy="use a newer convkit")
    if not attributes.get("__SUCCESS__", False):
        raise ConvkitError(
            "has no __SUCCESS__: whoever wrote it did not finish", remedy="fetch or make the checkpoint again"
        )
    _, text = json.loads(attributes["__spec__"])
    return treespec.loads(text)


def _leaf(key: str, record: records.Record, file: h5py.File) -> Leaf:
    notes = record.notes
    if "deferred_object_cls" in notes or record.kind == "DeferredSafeTensor":
        raise ConvkitError(
            f"its data lies in another file, {notes['path']!r}",
            remedy="load and save the checkpoint with cerebras.pytorch, so that it holds its own data",
        )
    match record.kind:
        case "TorchTensorSerializer" | "NumpyArraySerializer":
            return Leaf(key, _stored_spec(_dataset(file, key), record))
        case "DeferredFullTensor":
            return Leaf(key, TensorSpec(tuple(notes["shape"]), _dtype(notes["dtype"])))
        case "ScalarSerializer":
            return Leaf(key, value=notes["scalar_value"])
        case "StringSerializer":
            return Leaf(key, value=notes["string_value"])
        case "NoneSerializer":
            return Leaf(key)
        case "ObjectSerializer":
            return Leaf(key, value=_object(file, key))
    raise ConvkitError(f"is of an unknown kind, {record.kind!r}", remedy="use a newer convkit")


def _dataset(file: h5py.File, key: str) -> h5py.Dataset:
    import h5py

    found = file.get(key)
    if not isinstance(found, h5py.Dataset):
        raise ValueError("is in the spec, and has no dataset")
    if found.file.id != file.id:
        raise ValueError("its dataset lies in another file")
    return found


def _stored_spec(dataset: h5py.Dataset, record: records.Record) -> TensorSpec:
    """The tensor's spec: what the record says, where the dataset agrees with it."""
    import numpy as np

    if dataset.shape is None:
        raise ValueError("its dataset holds no array")
    stored = dataset.dtype.newbyteorder("=").name
    if record.kind == "NumpyArraySerializer":
        return TensorSpec(dataset.shape, "bfloat16" if record.notes["is_bfloat16"] else stored)
    spec = TensorSpec(tuple(record.notes["shapes"][0]), _dtype(record.notes["dtypes"][0]))
    if spec.shape != dataset.shape:
        raise ValueError(f"its dataset has the shape {dataset.shape}, its metadata says {spec.shape}")
    # bfloat16 lies there as the bits of an int16: only the metadata tells
    if stored != (np.dtype("int16").name if spec.dtype == "bfloat16" else spec.dtype):
        raise ValueError(f"its dataset holds {stored}, its metadata says {spec.dtype}")
    return spec


def _filled(spec: TensorSpec, record: records.Record) -> FilledArray:
    """One value all over; torch.empty where there is none, here zero."""
    import numpy as np

    value = np.asarray(record.notes["fill_value"] or 0).astype(value_dtype(spec.dtype))
    return FilledArray(value.view(carrier(spec.dtype)))


def _object(file: h5py.File, key: str) -> Opaque:
    """The pickled object's bytes. They are carried, and never unpickled."""
    kind = "pickle"
    try:
        return Opaque(_dataset(file, key).attrs["__BYTES__"].tobytes(), kind)
    except _ERRORS as error:
        problem = f"the serialized object can't be read: {error}"
        return UnreadableObject(kind, ConvkitError(problem, path=file.filename, key=key, remedy=_DAMAGED))


def _dtype(torch_name: str) -> str:
    return torch_name.removeprefix("torch.")


@contextmanager
def _telling(path: Path, key: str | None = None, *, remedy: str = _DAMAGED) -> Iterator[None]:
    """Errors name file and key."""
    try:
        yield
    except ConvkitError as error:
        raise ConvkitError(error.problem, path=path, key=error.key or key, remedy=error.remedy) from error
    except _ERRORS as error:
        raise ConvkitError(str(error).strip("'\""), path=path, key=key, remedy=remedy) from error


FORMAT = CerebrasH5()
