"""Lays out a ``.mdl`` file: everything in it except the tensors' bytes, and the offset of each tensor.

HDF5 writes the skeleton (structure, records, datasets without their data) into memory, and then has nothing more to do
with the file. All of it happens in one thread and in the order of the leaves, and no time is recorded. So the same
leaves always give the same bytes and the same offsets.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from convkit.checkpoint import Leaf, Opaque
from convkit.formats.cerebras_h5 import records
from convkit.formats.plain.preallocated import FileLayout

if TYPE_CHECKING:
    import h5py

#: bytes that are held together in memory
_PAGE = 4096
#: bytes of HDF5's superblock (version 0), which has the file's size and where its root group lies
_SUPERBLOCK = 96


class Skeleton(Struct, frozen=True):
    """A file's layout, and the offset of the byte that becomes 1 when the file is complete (in ``__SUCCESS__``)."""

    layout: FileLayout
    success: int


def lay_out(
    path: Path,
    leaves: Sequence[Leaf],
    attributes: Mapping[str, Any],
    *,
    numpy_arrays: frozenset[str],
    notes: Mapping[str, Mapping[str, Any]],
) -> Skeleton:
    """Lay out a file.

    Args:
        path: of the file, which isn't made here.
        leaves: with names that HDF5 can hold.
        attributes: of the root group, with a ``__SUCCESS__`` that is False.
        numpy_arrays: keys of the tensors that load as numpy arrays.
        notes: by key, further attributes of datasets.
    """
    import h5py

    memory = _Memory()
    with h5py.File(memory, "w", libver="earliest") as file:
        file.attrs.update(attributes)
        places: dict[str, int | None] = {}
        for leaf in leaves:
            if isinstance(leaf.value, Opaque):
                _add_object(file, leaf.key, leaf.value.data)
            elif leaf.spec is not None and leaf.same_as is None:
                dataset = _add_dataset(file, leaf)
                own = records.of_tensor(leaf.spec, numpy=leaf.key in numpy_arrays).notes
                dataset.attrs.update({**notes.get(leaf.key, {}), **own})
                places[leaf.key] = dataset.id.get_offset()
    size, before = memory.size, memory.extents()
    with h5py.File(memory, "r+", libver="earliest") as file:
        # changed in place: the root group's header keeps its size
        file.attrs.modify("__SUCCESS__", True)
    # in the superblock HDF5 may drop a copy of where the parts of the root group lie
    (success,) = (at for at in memory.changed_since(before) if at >= _SUPERBLOCK)
    stamps = dict(_split(before, success))
    layout = FileLayout(
        path,
        size,
        stamps[0],
        {key: offset for key, offset in places.items() if offset is not None},  # an empty tensor has none
        {offset: data for offset, data in stamps.items() if offset},
    )
    return Skeleton(layout, success)


def _add_object(file: h5py.File, key: str, data: bytes) -> None:
    """A dataset without data, which has the object in an attribute."""
    import h5py
    import numpy as np

    # ordered attributes may be larger than 64 KiB
    empty = file.create_dataset(key, data=h5py.Empty("f"), track_order=True)
    empty.attrs.update({"__TYPE__": "ObjectSerializer", "compressed": False})
    empty.attrs["__BYTES__"] = np.frombuffer(data, "V1")


def _add_dataset(file: h5py.File, leaf: Leaf) -> h5py.Dataset:
    """A dataset in one piece, which has its place at once and whose data HDF5 never writes."""
    import h5py
    import numpy as np

    assert leaf.spec
    link = h5py.h5p.create(h5py.h5p.LINK_CREATE)
    link.set_create_intermediate_group(True)
    link.set_char_encoding(h5py.h5t.CSET_ASCII if leaf.key.isascii() else h5py.h5t.CSET_UTF8)
    how = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    how.set_layout(h5py.h5d.CONTIGUOUS)
    how.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    how.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    how.set_obj_track_times(False)
    dtype = h5py.h5t.py_create(np.dtype(records.stored_dtype(leaf.spec.dtype)), logical=True)
    space = h5py.h5s.create_simple(leaf.spec.shape) if leaf.spec.shape else h5py.h5s.create(h5py.h5s.SCALAR)
    # create_dataset would ignore how a dataset without axes is to be made
    return h5py.Dataset(h5py.h5d.create(file.id, leaf.key.encode(), dtype, space, how, link))


def _split(extents: Mapping[int, bytes], success: int) -> list[tuple[int, bytes]]:
    """The bytes to write first: without the one that is written last, and the superblock by itself."""
    pieces: list[tuple[int, bytes]] = []
    for start, data in extents.items():
        cuts = [0, *sorted(at - start for at in {_SUPERBLOCK, success, success + 1}), len(data)]
        inner = [cut for cut in cuts if 0 <= cut <= len(data)]
        pieces += [(start + low, data[low:high]) for low, high in pairwise(inner) if low < high]
    return [(offset, data) for offset, data in pieces if offset != success]


class _Memory(io.RawIOBase):
    """A file for h5py's ``fileobj`` driver, of which only what is written takes memory."""

    def __init__(self) -> None:
        super().__init__()
        self.size = 0
        self._at = 0
        self._pages: dict[int, bytearray] = {}
        self._written: list[tuple[int, int]] = []

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """As of any file."""
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self.size}[whence]
        return self._at

    def tell(self) -> int:
        """As of any file."""
        return self._at

    def readinto(self, buffer: Any) -> int:
        """As of any file."""
        view = memoryview(buffer).cast("B")
        count = max(0, min(len(view), self.size - self._at))
        view[:count] = self._read(self._at, self._at + count)
        self._at += count
        return count

    def write(self, data: Any) -> int:
        """As of any file."""
        view = memoryview(data).cast("B")
        start, stop = self._at, self._at + len(view)
        for page, low, high in _pages(start, stop):
            held = self._pages.setdefault(page, bytearray(_PAGE))
            at = page * _PAGE + low - start
            held[low:high] = view[at : at + high - low]
        self._written.append((start, stop))
        self._at = stop
        self.size = max(self.size, stop)
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        """As of any file; HDF5 writes nothing beyond the length that it sets."""
        self.size = self._at if size is None else size
        return self.size

    def extents(self) -> dict[int, bytes]:
        """What was written, by offset, in order; adjacent writes are one."""
        joined: list[tuple[int, int]] = []
        for start, stop in sorted(self._written):
            if joined and start <= joined[-1][1]:
                joined[-1] = joined[-1][0], max(stop, joined[-1][1])
            else:
                joined.append((start, stop))
        return {start: self._read(start, min(stop, self.size)) for start, stop in joined if start < self.size}

    def changed_since(self, before: Mapping[int, bytes]) -> list[int]:
        """The offsets of bytes that differ from those of earlier extents."""
        import numpy as np

        found: list[int] = []
        for start, data in before.items():
            old, new = (np.frombuffer(each, "u1") for each in (data, self._read(start, start + len(data))))
            found += [start + int(at) for at in np.flatnonzero(old != new)]
        return found

    def _read(self, start: int, stop: int) -> bytes:
        blank = bytes(_PAGE)
        return b"".join(self._pages.get(page, blank)[low:high] for page, low, high in _pages(start, stop))


def _pages(start: int, stop: int) -> list[tuple[int, int, int]]:
    """The pages that a range touches, each with the part of it within the page."""
    return [
        (page, max(0, start - page * _PAGE), min(_PAGE, stop - page * _PAGE))
        for page in range(start // _PAGE, -(-stop // _PAGE))
    ]
