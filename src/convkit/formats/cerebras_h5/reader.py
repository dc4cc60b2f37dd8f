"""Reads ``.mdl`` files: the index on opening, then tensors slice by slice. Nothing is unpickled.

Format 0.5 is handled here, older ones in :mod:`convkit.formats.cerebras_h5.old`. The file's contents are checked.
HDF5's own structures can only be checked by HDF5, which doesn't check all of them: of 1500 files with random bytes
overwritten, 5 crashed or hung HDF5 2.0 while it read an attribute.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convkit.checkpoint import Checkpoint, Leaf, Opaque, TensorSpec, json_text
from convkit.errors import ConvkitError
from convkit.formats.cerebras_h5 import records
from convkit.formats.cerebras_h5.arrays import Array, PlacedArray
from convkit.formats.cerebras_h5.entries import DAMAGED, ERRORS, Datasets, Entry, elsewhere, filled
from convkit.formats.cerebras_h5.hdf5 import UNCOLLECTED, opened
from convkit.formats.cerebras_h5.old import FIRST, RELEASES, OldEntries
from convkit.state.cerebras import pickled_treespec, treespec

if TYPE_CHECKING:
    import h5py
    import numpy as np


#: the format's own attributes of the root group, besides those of the leaves
_OWN = frozenset({"__spec__", "__version__", "__cstorch_version__", "__SUCCESS__"})


class CerebrasCheckpoint(Checkpoint):
    """An opened ``.mdl`` file.

    ``metadata`` is described in :class:`convkit.formats.cerebras_h5.format.CerebrasH5`. ``attributes`` holds
    what other programs added to the file.
    """

    format = "cerebras-h5"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.leaves = {}
        self._datasets: dict[str, h5py.Dataset] = {}
        self._arrays: dict[str, Array] = {}
        with UNCOLLECTED, _telling(path):
            self._file = opened(path)
        self._closing = weakref.finalize(self, self._file.close)  # also at the interpreter's end
        try:
            with UNCOLLECTED, _telling(path):
                self._index(dict(self._file.attrs))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> CerebrasCheckpoint:
        return self

    @property
    def attributes(self) -> dict[str, Any]:
        """The root group's attributes that aren't the format's own."""
        of_leaves = {f"{key}.__metadata__" for key in self.leaves}
        with UNCOLLECTED, _telling(self.path):
            return {name: value for name, value in self._file.attrs.items() if name not in _OWN | of_leaves}

    def notes(self, key: str) -> dict[str, Any]:
        """The attributes of a tensor's dataset; of a tensor without one, none."""
        with UNCOLLECTED, _telling(self.path, key):
            return dict(self._datasets[key].attrs) if key in self._datasets else {}

    def read(self, key: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Elements ``[start, stop)``: only the chunks that hold them are decoded, in the calling thread."""
        array, spec = self._tensor(key)
        with _telling(self.path, key):
            return array.read(start, spec.size if stop is None else min(stop, spec.size))

    def lies_open(self, key: str) -> bool:
        """Tensors in one piece."""
        return isinstance(self._tensor(key)[0], PlacedArray)

    def rows(self, key: str, starts: Sequence[int], length: int) -> np.ndarray:
        """See :meth:`Tensors.rows`."""
        array, _ = self._tensor(key)
        if not isinstance(array, PlacedArray):
            return super().rows(key, starts, length)
        with _telling(self.path, key):
            return array.rows(starts, length)

    def leaf_bytes(self) -> dict[Path, list[tuple[int, int]]]:
        """Contiguous tensors, and chunks that aren't packed."""
        return {self.path: [place for array in self._arrays.values() for place in array.places()]}

    def close(self) -> None:
        """Close the file."""
        self._closing()

    def _tensor(self, key: str) -> tuple[Array, TensorSpec]:
        leaf = self.leaves.get(key)
        if leaf is None or leaf.spec is None:
            raise ConvkitError("holds no tensor of this name", path=self.path, key=key, remedy="see convkit inspect")
        return self._arrays[key], leaf.spec

    def _index(self, attributes: dict[str, Any]) -> None:
        version = _version(attributes)
        tree, stand_ins = _tree(attributes["__spec__"])
        datasets = Datasets(self._file, self.path)
        old = version < records.VERSION
        entries = OldEntries(self._file, datasets, version) if old else _Entries(attributes, datasets)
        links: dict[str, str] = {}
        numpy_arrays: list[str] = []
        for key, node in treespec.terminals(tree):
            with _telling(self.path, key):
                if key in self.leaves:
                    raise ValueError("is the name of two leaves")
                if node.type is not None:
                    self.leaves[key] = Leaf(key, value=node.empty)
                    continue
                entry = entries.entry(key)
                self.leaves[key] = entry.leaf  # links too, for the order
                if entry.link is not None:
                    links[key] = entry.link
                if entry.array is not None:
                    self._arrays[key] = entry.array
                if entry.dataset is not None:
                    self._datasets[key] = datasets.find(entry.dataset)
                if entry.numpy:
                    numpy_arrays.append(key)
        for key in links:
            with _telling(self.path, key):
                self._link(key, links)
        self.metadata = {
            "spec": treespec.dumps(tree),
            "numpy_arrays": numpy_arrays,
            "version": version,
            "cstorch_version": attributes.get("__cstorch_version__", RELEASES.get(version)),
            "tensor_scalar_dicts": list(stand_ins),
            "left_out": list(entries.left_out),
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


class UnreadableObject(Opaque, frozen=True):
    """A serialized object with damaged bytes: the error is raised on access, so that the rest can be read."""

    error: ConvkitError

    @property  # type: ignore[misc]  # in the place of the field
    def data(self) -> bytes:
        """Raises the error."""
        raise self.error

    def __eq__(self, other: object) -> bool:
        return isinstance(other, UnreadableObject) and self.data == other.data

    __hash__ = Opaque.__hash__

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.kind!r})"


def _version(attributes: dict[str, Any]) -> float:
    """The format version of a complete file. Release 1.7 stored none; then the spec's form shows it."""
    if "__spec__" not in attributes:
        raise ConvkitError("is an HDF5 file without the attribute __spec__", remedy="name a Cerebras checkpoint")
    if not isinstance(attributes["__spec__"], str):
        raise ValueError("its __spec__ isn't text")
    noted = attributes.get("__version__", records.VERSION if _is_json(attributes["__spec__"]) else FIRST)
    version = float(noted) if isinstance(noted, Real) else math.nan
    if not version > 0:
        raise ValueError(f"its __version__ is {noted!r}, which isn't a format number")
    if version > records.VERSION:
        raise ConvkitError(f"is of format {version}, newer than {records.VERSION}", remedy="use a newer convkit")
    if version == records.VERSION and not attributes.get("__SUCCESS__", False):
        raise ConvkitError("has no __SUCCESS__: whoever wrote it did not finish", remedy="fetch or make it again")
    return version


def _tree(text: str) -> tuple[treespec.Tree, tuple[str, ...]]:
    """The structure, and which of its dicts were a ``TensorScalarDict``."""
    if _is_json(text):
        _, inner = json_text.loads(text)
        return treespec.loads(inner), ()
    try:
        pickle = bytes.fromhex(text)
    except ValueError:
        raise ValueError("its __spec__ is neither JSON nor a pickle in hex") from None
    return pickled_treespec.loads(pickle)


def _is_json(spec: str) -> bool:
    return spec.lstrip().startswith("[")


class _Entries:
    """The entries of an opened file of format 0.5, by leaf name."""

    #: the format records every tied copy
    left_out: Sequence[str] = ()

    def __init__(self, attributes: dict[str, Any], datasets: Datasets) -> None:
        self._attributes = attributes
        self._datasets = datasets

    def entry(self, key: str) -> Entry:
        """The entry of a name in the spec.

        Raises:
            ConvkitError: data elsewhere, or an unknown kind.
            ValueError, KeyError: corrupt.
        """
        record = self._record(key)
        match record.kind:
            case "LinkedObject":
                return Entry(Leaf(key), link=record.notes["key"])
            case "ObjectSerializer":
                return Entry(Leaf(key, value=_object(self._datasets, key)))
            case "TorchTensorSerializer":
                return self._datasets.tensor(key, key, records.tensor_spec(record), numpy=False)
            case "NumpyArraySerializer":
                is_bfloat16 = record.notes["is_bfloat16"]
                return self._datasets.tensor(key, key, None, numpy=True, is_bfloat16=is_bfloat16)
            case "DeferredFullTensor":
                return filled(key, records.full_spec(record), record.notes["fill_value"])
            case _:
                return Entry(Leaf(key, value=records.value(record)))

    def _record(self, key: str) -> records.Record:
        text = self._attributes.get(f"{key}.__metadata__")
        if text is None:
            raise ValueError("is in the spec, and has no metadata")
        record = records.loads(text)
        if "deferred_object_cls" in record.notes or record.kind in ("DeferredSafeTensor", "DeferredFileTensor"):
            raise elsewhere(record.notes.get("path", record.notes.get("filepath")))
        return record


def _object(datasets: Datasets, key: str) -> Opaque:
    """The pickled object's bytes."""
    try:
        return Opaque(datasets.find(key).attrs["__BYTES__"].tobytes(), records.PICKLE)
    except ERRORS as error:
        problem = f"the serialized object can't be read: {error}"
        return UnreadableObject(b"", records.PICKLE, ConvkitError(problem, path=datasets.path, key=key, remedy=DAMAGED))


@contextmanager
def _telling(path: Path, key: str | None = None) -> Iterator[None]:
    """Turn errors into ones that name the file and the key."""
    try:
        yield
    except ConvkitError as error:
        raise ConvkitError(error.problem, path=path, key=error.key or key, remedy=error.remedy) from error
    except PermissionError as error:
        raise ConvkitError(
            "can't be read: permission denied", path=path, key=key, remedy="check who may read it"
        ) from error
    except ERRORS as error:
        # the ValueErrors are ours and complete
        problem = str(error) if isinstance(error, ValueError) else f"can't be read: {error}"
        raise ConvkitError(problem, path=path, key=key, remedy=DAMAGED) from error
