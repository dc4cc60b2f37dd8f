"""Writes ``.mdl`` 0.5 files chunk by chunk.

The skeleton (structure, records, empty datasets) is written first, and data only after it. Chunks
are compressed in the calling thread and handed to HDF5 ready-made; those that LZ4 doesn't shrink
are stored raw, which HDF5 notes in the chunk's filter mask.

After a kill HDF5's own index may be torn, but only that of unfinished leaves: a finished leaf was flushed, and nothing
touches its index again. So resuming never writes into the old file. It copies the finished leaves, still compressed,
into a new file beside it, ``<path>.resume``, which then replaces the old one; for a while finished leaves take twice
their space. If nothing can be resumed the writer starts over; a caller who then skips the leaves that an earlier
process finished gets an error from :meth:`CerebrasWriter.commit`, which refuses a file with a gap.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from convkit.checkpoint import Leaf, Opaque, WriteOptions, Writer
from convkit.errors import ConvkitError
from convkit.files.sync import sync
from convkit.formats.arrays.ranges import boxes, chunk_shape
from convkit.formats.cerebras_h5 import records
from convkit.formats.cerebras_h5.arrays import chunk_index, lz4_encode
from convkit.formats.cerebras_h5.output import Output
from convkit.formats.plain.io_errors import unwritable
from convkit.state.cerebras import treespec

if TYPE_CHECKING:
    import h5py
    import numpy as np

#: approximate bytes per chunk: large enough to hide HDF5's overhead, small enough for the processor's cache
CHUNK_BYTES = 1 << 20
#: smaller chunks cost more than they save, so a longer row is then not split
_MIN_CHUNK_BYTES = 16 << 10
#: the release whose format is written
_CSTORCH_VERSION = "2.10.0"
#: HDF5's filter mask of a chunk that skipped the only filter
_RAW = 1
#: what h5py raises for a file torn by a kill
_TORN = (OSError, KeyError, RuntimeError, ValueError)

NOTHING: Mapping[str, Any] = MappingProxyType({})


class CerebrasWriter(Writer):
    """Writes a ``.mdl`` file.

    ``packed`` are datasets of another file (see :func:`can_be_packed`) that are stored alike, with their chunks,
    filters and attributes: :meth:`copy_leaf` copies them as they are, and these leaves are not written.
    ``attributes`` are added to the file's own.
    """

    def __init__(
        self,
        path: Path,
        leaves: Sequence[Leaf],
        options: WriteOptions,
        *,
        resume: bool = False,
        packed: Mapping[str, h5py.Dataset] = NOTHING,
        attributes: Mapping[str, Any] = NOTHING,
    ) -> None:
        import hdf5plugin  # noqa: F401 - registers the filters

        self._path = path
        self._leaves = leaves
        self._numpy_arrays = frozenset(options.metadata.get("numpy_arrays", ()))
        self._packed = packed
        self.packed = packed.keys()
        attributes = {**attributes, **self._attributes(options)}
        with self._io_errors():
            old = _reopen(path, attributes) if resume else None
            if old is None:
                self._begin(path, attributes)
            else:
                with old:
                    self._resume(old, path.with_name(f"{path.name}.resume"), attributes)

    def granularity(self, key: str) -> int:
        """Elements per chunk."""
        return math.prod(self._datasets[key].chunks or (1,))

    def write(self, key: str, start: int, data: np.ndarray) -> None:
        """Compress and store whole chunks; the last one is padded."""
        import numpy as np

        dataset = self._datasets[key]
        if dataset.chunks is None:
            with self._io_errors(key):
                dataset[()] = data.view(dataset.dtype).reshape(())
            return
        grain = self.granularity(key)
        for at in range(0, data.size, grain):
            part = data[at : at + grain]
            if part.size < grain:
                part = np.concatenate([part, np.zeros(grain - part.size, part.dtype)])
            corner = tuple(int(i) for i in np.unravel_index(start + at, dataset.shape))
            raw = part.view("uint8").data
            packed = lz4_encode(raw)
            # one call at a time: HDF5 and h5py lock
            with self._io_errors(key):
                dataset.id.write_direct_chunk(corner, packed or raw, 0 if packed else _RAW)

    def finish(self, key: str) -> None:
        """Flush HDF5's index into the file; the kernel has the data already."""
        with self._io_errors(key):
            self._file.flush()

    def copy_leaf(self, key: str, files: Mapping[str, Path]) -> bool:
        """Copy a packed dataset's chunks, or its elements where it has none."""
        if key not in self._packed:
            return False
        with self._io_errors(key):
            _copy(self._packed[key], self._datasets[key])
        self.finish(key)
        return True

    def commit(self) -> None:
        """Mark the file as complete, and sync it.

        Raises:
            ConvkitError: a leaf was not written in full.
        """
        for key, dataset in self._datasets.items():
            if not _whole(dataset):
                raise ConvkitError(
                    "was not written in full", path=self._path, key=key, remedy="convert again from the start"
                )
        with self._io_errors():
            # changed in place: the root group's header keeps its size
            self._file.attrs.modify("__SUCCESS__", True)
            self.close()
            sync(self._path)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        self._output.close()

    def _begin(self, path: Path, attributes: dict[str, Any], old: h5py.File | None = None) -> None:
        """Create a file with everything except the data, then copy the leaves that are complete in an old file."""
        import h5py

        self._output = Output(path)
        self._file = h5py.File(self._output, "w", libver="earliest")
        try:
            self._lay_out(attributes)
            for key, dataset in self._datasets.items() if old else ():
                _copy_if_whole(old, dataset, key)
            self._file.flush()
        except BaseException:
            self.close()
            raise

    def _attributes(self, options: WriteOptions) -> dict[str, Any]:
        """The root group's attributes: everything that is known before the tensors."""
        tree = self._tree(options.metadata.get("spec"))
        attributes: dict[str, Any] = {
            "__spec__": json.dumps([treespec.template(tree), treespec.dumps(tree)], indent=4),
            "__version__": records.VERSION,
            "__cstorch_version__": _CSTORCH_VERSION,
            "__SUCCESS__": False,
        }
        datasets: set[str] = set()
        by_key = {leaf.key: leaf for leaf in self._leaves}
        for leaf in self._leaves:
            try:
                record = self._record(leaf, by_key)
                stored = record is not None and "__NONE__" not in record.notes
                _check_name(leaf.key, is_dataset=stored)
                if record is not None:
                    attributes[f"{leaf.key}.__metadata__"] = records.dumps(leaf.key, record)
                if stored:
                    datasets.add(leaf.key)
            except ConvkitError as error:
                path = error.path or self._path
                raise ConvkitError(error.problem, path=path, key=leaf.key, remedy=error.remedy) from error
        for key in datasets:
            if any(str(parent) in datasets for parent in Path(key).parents):
                raise ConvkitError(
                    'another tensor has the name before "/"', path=self._path, key=key, remedy="rename one of them"
                )
        return attributes

    def _record(self, leaf: Leaf, by_key: dict[str, Leaf]) -> records.Record | None:
        if leaf.same_as is not None:
            owner = by_key.get(leaf.same_as)
            if owner is None or owner.spec != leaf.spec or owner.same_as is not None:
                raise ConvkitError(f"is tied to {leaf.same_as!r}, which isn't such a tensor", remedy="write it in full")
            return records.of_link(owner.key)
        if leaf.spec is not None:
            return records.of_tensor(leaf.spec, numpy=leaf.key in self._numpy_arrays)
        return None if leaf.value in ([], {}) else records.of_value(leaf)

    def _tree(self, spec: str | None) -> treespec.Tree:
        """The requested structure, checked against the leaves; without one, the original's structure for a model."""
        nodes = {leaf.key: treespec.node_of(leaf) for leaf in self._leaves}
        if len(nodes) < len(self._leaves):
            raise ConvkitError("two leaves have the same name", path=self._path, remedy="rename one of them")
        if spec is None:
            return treespec.flat(nodes.items(), "" if "model" in nodes else "model")
        tree = treespec.loads(spec)
        named = {key: (node.type is None) for key, node in treespec.terminals(tree)}
        for key in named.keys() ^ nodes.keys():
            where = "leaves" if key in named else "spec"
            raise ConvkitError(f"is missing in the {where}", path=self._path, key=key, remedy="write without a spec")
        for key, node in nodes.items():
            if named[key] != (node.type is None):
                raise ConvkitError("is a container in one of spec and leaves", path=self._path, key=key)
        return tree

    def _resume(self, old: h5py.File, beside: Path, attributes: dict[str, Any]) -> None:
        try:
            self._begin(beside, attributes, old)
            beside.replace(self._path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise

    def _lay_out(self, attributes: dict[str, Any]) -> None:
        """Write attributes and empty datasets, and flush: from here on a finished leaf survives a kill."""
        import h5py
        import hdf5plugin
        import numpy as np

        self._datasets: dict[str, h5py.Dataset] = {}
        self._file.attrs.update(attributes)
        for leaf in self._leaves:
            if isinstance(leaf.value, Opaque):
                # ordered attributes may be larger than 64 KiB
                empty = self._file.create_dataset(leaf.key, data=h5py.Empty("f"), track_order=True)
                empty.attrs.update({"__TYPE__": "ObjectSerializer", "compressed": False})
                empty.attrs["__BYTES__"] = np.frombuffer(leaf.value.data, "V1")
            if leaf.spec is None or leaf.same_as is not None:
                continue
            if leaf.key in self._packed:
                dataset = self._like(leaf)
            else:
                shape, dtype = leaf.spec.shape, records.stored_dtype(leaf.spec.dtype)
                chunks = chunk_shape(shape, leaf.spec.itemsize, CHUNK_BYTES, _MIN_CHUNK_BYTES)
                filters = {"chunks": 0 in shape or chunks, **hdf5plugin.LZ4()} if shape else {}
                dataset = self._file.create_dataset(leaf.key, shape, dtype, **filters)
            dataset.attrs.update(records.of_tensor(leaf.spec, numpy=leaf.key in self._numpy_arrays).notes)
            self._datasets[leaf.key] = dataset
        self._file.flush()

    def _like(self, leaf: Leaf) -> h5py.Dataset:
        """An empty dataset with chunks, filters and attributes of the packed one."""
        import h5py

        packed = self._packed[leaf.key]
        link = h5py.h5p.create(h5py.h5p.LINK_CREATE)
        link.set_create_intermediate_group(True)
        name = leaf.key.encode()
        made = h5py.h5d.create(
            self._file.id, name, packed.id.get_type(), packed.id.get_space(), packed.id.get_create_plist(), link
        )
        dataset = h5py.Dataset(made)
        dataset.attrs.update(packed.attrs)
        return dataset

    @contextmanager
    def _io_errors(self, key: str | None = None) -> Iterator[None]:
        try:
            yield
        except (OSError, RuntimeError) as error:
            # h5py's own text is long; the system's is enough
            raise unwritable(self._output.failure or error, self._path, key) from error


def _copy(source: h5py.Dataset, dataset: h5py.Dataset) -> None:
    """Copy the chunks as they are, or the elements of a dataset without chunks."""
    if source.chunks is None:
        rows = max(1, CHUNK_BYTES // source.dtype.itemsize)
        for start in range(0, source.size, rows):
            for box in boxes(source.shape, start, min(source.size, start + rows)):
                dataset[box] = source[box]
        return
    for corner in chunk_index(source):
        mask, packed = source.id.read_direct_chunk(corner)
        dataset.id.write_direct_chunk(corner, packed, mask)


def can_be_packed(leaf: Leaf, dataset: h5py.Dataset) -> bool:
    """Whether a dataset holds a complete leaf in the format's form, whatever its filters."""
    assert leaf.spec
    stored = dataset.dtype.newbyteorder("=").name == records.stored_dtype(leaf.spec.dtype)
    return stored and dataset.dtype.byteorder != ">" and dataset.shape == leaf.spec.shape and _whole(dataset)


def _check_name(key: str, *, is_dataset: bool) -> None:
    """Check a name: HDF5 ends it at NUL; in a dataset's name "/" is a group and "." is the current group."""
    if "\0" in key or (is_dataset and any(part in ("", ".") for part in key.split("/"))):
        raise ConvkitError("HDF5 can't hold this name", remedy="rename the leaf")


def _whole(dataset: h5py.Dataset) -> bool:
    if dataset.chunks is None:
        return bool(dataset.id.get_storage_size())
    chunks = (math.ceil(length / rows) for length, rows in zip(dataset.shape, dataset.chunks, strict=True))
    return dataset.id.get_num_chunks() == math.prod(chunks)


def _reopen(path: Path, attributes: dict[str, Any]) -> h5py.File | None:
    """The file that an earlier process left, if it has the same leaves; None means to start over."""
    import h5py

    with suppress(*_TORN):
        old = h5py.File(path, "r")
        # it may even be complete, if the process was killed before publishing it
        if _equal({**old.attrs, "__SUCCESS__": False}, attributes):
            return old
        old.close()
    return None


def _equal(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether attributes are the same; those that other programs added may be arrays."""
    import numpy as np

    return one.keys() == other.keys() and all(np.array_equal(value, other[name]) for name, value in one.items())


def _copy_if_whole(old: h5py.File, dataset: h5py.Dataset, key: str) -> None:
    """Copy a leaf's chunks as they are, unless some are missing or the index is torn."""
    try:
        source = old[key]
        if not _whole(source):
            return
        index = chunk_index(source) if source.chunks else {}
    except _TORN:
        return
    if source.chunks is None:
        _copy(source, dataset)
    for corner in index:
        try:
            mask, packed = source.id.read_direct_chunk(corner)
        except _TORN:
            return
        dataset.id.write_direct_chunk(corner, packed, mask)
