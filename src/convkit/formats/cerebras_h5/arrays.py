"""Reads tensors in HDF5 datasets from the file itself, bypassing the HDF5 library where possible.

HDF5 works under one global lock and reads whole chunks. So the library is asked only for the offsets of the bytes; they
are then read and decoded in the calling thread. Layouts and filters that this module doesn't know are left to the
library.
"""

from __future__ import annotations

import itertools
import math
import struct
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from msgspec import Struct

from convkit.checkpoint.source_files import SourceFiles
from convkit.formats.arrays.ranges import Box, boxes
from convkit.formats.cerebras_h5.hdf5 import UNCOLLECTED

if TYPE_CHECKING:
    import h5py

#: the LZ4 filter's registered number; the HDF5 group's filter registry
LZ4_FILTER = 32004
#: bytes of decoded chunks in the cache, so that slices of less than a row of chunks don't decode it repeatedly
CACHE_BYTES = 16 << 20

#: the LZ4 filter's framing, big-endian (H5Zlz4.c of the HDF5 group): decoded bytes, bytes a block; then each block's
_FRAME = struct.Struct(">QI")
_BLOCK = struct.Struct(">I")

#: LZ4's highest possible ratio: a chunk that claims more is corrupt, and no memory is reserved for it
_LZ4_BEST = 256


class Array(Protocol):
    """A tensor's elements, in a numpy dtype of the same width."""

    def read(self, start: int, stop: int) -> np.ndarray:
        """Elements ``[start, stop)`` in C order, 1-D.

        Raises:
            ValueError, OSError: the bytes are corrupt.
        """

    def places(self) -> Iterator[tuple[int, int]]:
        """Byte ranges of the file, each from a start up to an end, that hold nothing but elements as they are."""


class RawBytes(Struct, frozen=True):
    """The bytes of a file, which had this size when it was opened."""

    files: SourceFiles
    path: Path
    size: int

    def read(self, offset: int, count: int, dtype: np.dtype[Any]) -> np.ndarray:
        """Elements from an offset on, 1-D.

        Raises:
            ConvkitError: the file can't be read, or was cut short.
        """
        return self.files.read(self.path, offset, count, dtype)

    def rows(self, offsets: Sequence[int], length: int, dtype: np.dtype[Any]) -> np.ndarray:
        """``length`` elements from each offset on, 2-D.

        Raises:
            ConvkitError: as :meth:`read`.
        """
        data = np.empty((len(offsets), length), dtype)
        self.files.fill_rows(self.path, offsets, data)
        return data


def open_array(dataset: h5py.Dataset, dtype: np.dtype[Any], raw: RawBytes, cache: ChunkCache) -> Array:
    """The reader for a dataset: in one piece, by chunks, or through the library.

    Raises:
        ValueError: the data lies in other files, behind a user block, or beyond the end of the file.
    """
    plist = dataset.id.get_create_plist()
    if dataset.is_virtual or plist.get_external_count():
        raise ValueError("its data lies in other files")
    if dataset.file.userblock_size:
        raise ValueError("lies behind a user block, which shifts all offsets")
    if dataset.dtype.byteorder == ">":
        return LibraryArray(dataset, dtype)
    filters = [plist.get_filter(i)[0] for i in range(plist.get_nfilters())]
    if dataset.chunks and filters in ([], [LZ4_FILTER]):
        return ChunkedArray(dataset, dtype, raw, cache)
    offset = dataset.id.get_offset()
    if dataset.chunks or offset is None:
        return LibraryArray(dataset, dtype)
    size = math.prod(dataset.shape)
    if offset + size * dtype.itemsize > raw.size:
        raise ValueError("its data lies beyond the end of the file")
    return PlacedArray(raw, offset, size, dtype)


class PlacedArray(Struct, frozen=True):
    """A contiguous dataset without filters, from the offset of its first byte on."""

    raw: RawBytes
    offset: int
    size: int
    dtype: np.dtype[Any]

    def places(self) -> Iterator[tuple[int, int]]:
        """The whole."""
        yield self.offset, self.offset + self.size * self.dtype.itemsize

    def read(self, start: int, stop: int) -> np.ndarray:
        """Read them from the file."""
        return self.raw.read(self.offset + start * self.dtype.itemsize, max(0, stop - start), self.dtype)

    def rows(self, starts: Sequence[int], length: int) -> np.ndarray:
        """The ``length`` elements from each of some positions on: 2-D."""
        return self.raw.rows([self.offset + start * self.dtype.itemsize for start in starts], length, self.dtype)


class FilledArray(Struct, frozen=True):
    """A tensor of one repeated value, without a dataset."""

    element: np.ndarray

    def places(self) -> Iterator[tuple[int, int]]:
        """None."""
        return iter(())

    def read(self, start: int, stop: int) -> np.ndarray:
        """The value, repeated."""
        return np.full(stop - start, self.element)


class LibraryArray(Struct, frozen=True):
    """A dataset that is read through HDF5: compact, big-endian, or with other filters."""

    dataset: h5py.Dataset
    dtype: np.dtype[Any]

    def places(self) -> Iterator[tuple[int, int]]:
        """None."""
        return iter(())

    def read(self, start: int, stop: int) -> np.ndarray:
        """Read box by box."""
        import hdf5plugin  # noqa: F401 - registers the filters

        native = self.dataset.dtype.newbyteorder("<")
        around = boxes(self.dataset.shape, start, stop)
        with UNCOLLECTED:
            parts = [np.asarray(self.dataset[box], native).reshape(-1) for box in around]
        return np.concatenate(parts).view(self.dtype) if parts else np.empty(0, self.dtype)


class ChunkCache:
    """A least-recently-used cache of decoded chunks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._chunks: OrderedDict[int, np.ndarray] = OrderedDict()
        self._bytes = 0

    def get(self, offset: int) -> np.ndarray | None:
        """The chunk at this offset of the file."""
        with self._lock:
            chunk = self._chunks.get(offset)
            if chunk is not None:
                self._chunks.move_to_end(offset)
            return chunk

    def put(self, offset: int, chunk: np.ndarray) -> None:
        """Add a chunk, and drop the least recently used ones."""
        with self._lock:
            if offset not in self._chunks:
                self._bytes += chunk.nbytes
            self._chunks[offset] = chunk
            while self._bytes > CACHE_BYTES:
                self._bytes -= self._chunks.popitem(last=False)[1].nbytes


class ChunkedArray:
    """A chunked dataset, raw or LZ4. A chunk that was never written holds the fill value, as in HDF5."""

    def __init__(self, dataset: h5py.Dataset, dtype: np.dtype[Any], raw: RawBytes, cache: ChunkCache) -> None:
        self._dataset = dataset
        self._dtype = dtype
        self._raw = raw
        self._cache = cache
        self._shape: tuple[int, ...] = dataset.shape
        self._chunk: tuple[int, ...] = dataset.chunks
        self._filtered = dataset.id.get_create_plist().get_nfilters() > 0
        self._index: dict[tuple[int, ...], tuple[int, int, int]] | None = None

    def read(self, start: int, stop: int) -> np.ndarray:
        """Decode only the chunks that the range touches."""
        out = np.empty(stop - start, self._dtype)
        at = 0
        for box in boxes(self._shape, start, stop):
            lengths = [part.stop - part.start for part in box]
            into = out[at : at + math.prod(lengths)].reshape(lengths)
            at += into.size
            for corner in _corners(box, self._chunk):
                overlap = [
                    (max(part.start, low), min(part.stop, low + high))
                    for part, low, high in zip(box, corner, self._chunk, strict=True)
                ]
                target = tuple(slice(a - part.start, b - part.start) for (a, b), part in zip(overlap, box, strict=True))
                source = tuple(slice(a - low, b - low) for (a, b), low in zip(overlap, corner, strict=True))
                into[target] = self._decoded(corner)[source]
        return out

    def places(self) -> Iterator[tuple[int, int]]:
        """The chunks that are stored raw and lie whole within the tensor."""
        nbytes = math.prod(self._chunk) * self._dtype.itemsize
        for corner, (mask, offset, size) in self._chunks().items():
            sides = zip(corner, self._chunk, self._shape, strict=True)
            inside = all(low + length <= end for low, length, end in sides)
            if (mask or not self._filtered) and size == nbytes and inside:
                yield offset, offset + size

    def _decoded(self, corner: tuple[int, ...]) -> np.ndarray:
        entry = self._chunks().get(corner)
        if entry is None:
            return np.broadcast_to(
                np.asarray(self._dataset.fillvalue, self._dataset.dtype).view(self._dtype), self._chunk
            )
        mask, offset, size = entry
        if offset + size > self._raw.size:
            raise ValueError("a chunk lies beyond the end of the file")
        nbytes = math.prod(self._chunk) * self._dtype.itemsize
        if mask or not self._filtered:
            if size != nbytes:
                raise ValueError(f"a chunk has {size} bytes for {nbytes}")
            return self._raw.read(offset, math.prod(self._chunk), self._dtype).reshape(self._chunk)
        chunk = self._cache.get(offset)
        if chunk is None:
            packed = self._raw.read(offset, size, np.dtype(np.uint8))
            chunk = np.frombuffer(lz4_decode(packed.data, nbytes), self._dtype).reshape(self._chunk)
            self._cache.put(offset, chunk)
        return chunk

    def _chunks(self) -> dict[tuple[int, ...], tuple[int, int, int]]:
        """Corner -> filter mask, offset, bytes. Built without a lock: two threads build the same index."""
        if self._index is None:
            self._index = chunk_index(self._dataset)
        return self._index


def chunk_index(dataset: h5py.Dataset) -> dict[tuple[int, ...], tuple[int, int, int]]:
    """The corner of each chunk that was written -> its filter mask (bit 0: raw), its offset in the file, its bytes.

    Raises:
        OSError, RuntimeError: HDF5 can't read its own index.
    """
    found: dict[tuple[int, ...], tuple[int, int, int]] = {}

    def add(chunk: Any) -> None:
        found[chunk.chunk_offset] = (chunk.filter_mask, chunk.byte_offset, chunk.size)

    with UNCOLLECTED:
        dataset.id.chunk_iter(add)
    return found


def lz4_decode(data: memoryview, nbytes: int) -> bytes:
    """Decode a chunk that the LZ4 filter wrote. A block of its full size is stored raw.

    Raises:
        ValueError: corrupt.
    """
    import lz4.block

    try:
        total, block = _FRAME.unpack_from(data)
        if total != nbytes or not block:
            raise ValueError(f"a chunk says that it holds {total} bytes for {nbytes}")
        parts = []
        at = _FRAME.size
        for start in range(0, total, block):
            want = min(block, total - start)
            (size,) = _BLOCK.unpack_from(data, at)
            at += _BLOCK.size
            part = data[at : at + size]
            at += size
            if want > size * _LZ4_BEST:
                raise ValueError(f"a chunk says that {size} bytes of LZ4 hold {want}")
            parts.append(bytes(part) if size == want else lz4.block.decompress(part, uncompressed_size=want))
    except (struct.error, lz4.block.LZ4BlockError) as error:
        raise ValueError(f"a chunk is not LZ4: {error}") from error
    whole = parts[0] if len(parts) == 1 else b"".join(parts)
    if len(whole) != nbytes:
        raise ValueError(f"a chunk decodes to {len(whole)} bytes for {nbytes}")
    return whole


def _corners(box: Box, chunk: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Corners of the chunks that a box touches."""
    return itertools.product(
        *(range(part.start - part.start % length, part.stop, length) for part, length in zip(box, chunk, strict=True))
    )
