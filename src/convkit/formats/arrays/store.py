"""Reading the elements of zarr arrays through tensorstore, asynchronously and in bounded memory.

A range of elements is a few boxes (:mod:`~convkit.formats.arrays.ranges`), read concurrently, up to
:data:`IN_FLIGHT` bytes at a time. If a range ends within a chunk, decoded chunks stay in a cache for the next range:
:data:`CACHE` bytes, or one row of chunks if that is more. Chunks that are ranges of their array are decoded
without tensorstore, in slices (:mod:`~convkit.formats.arrays.streamed`).
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convkit.checkpoint.source_files import Ranged
from convkit.checkpoint.tensors import carrier
from convkit.checkpoint.threads import LITTLE, Caller
from convkit.errors import ConvkitError
from convkit.formats.arrays.chunk_stream import Packed
from convkit.formats.arrays.frames import Frames
from convkit.formats.arrays.glibc import limit_heaps
from convkit.formats.arrays.ranges import block, box_size, boxes
from convkit.formats.arrays.stored_bytes import STORED_PIECE, stored_bytes
from convkit.formats.arrays.streamed import Streams, is_streamed
from convkit.formats.arrays.unpacked import check, is_unpacked_here
from convkit.formats.arrays.unpacked import read as read_unpacked
from convkit.formats.arrays.zarr import ZarrArray
from convkit.formats.arrays.zarr2 import CHUNK_BYTES, Zarray

if TYPE_CHECKING:
    import numpy as np
    import tensorstore

#: bytes being read or written at the same time: a chunk for each core, because compression takes the most time
IN_FLIGHT = CHUNK_BYTES * max(4, os.cpu_count() or 1)
#: bytes of decoded chunks in the cache
CACHE = 128 << 20
#: chunks of more bytes are decoded in slices wherever they lie, smaller ones not in a store: tensorstore asks it for
#: several at a time
LARGE = 64 << 20
#: chunks of a database here from which on they are decoded in slices: tensorstore takes less time for many small ones
SMALL = 1 << 20
#: bytes of database trees in the cache
TREES = 32 << 20
#: how tensorstore names a file that it can't read or write, and the debugging details that it adds
_FILE_ERROR = re.compile(r'"([^"]+)": (.*)')
_ADDED = re.compile(r" \[(tensorstore_spec|os_error_code|source|http_response)\w*='.*")


@dataclass(frozen=True, slots=True)
class StoredArray:
    """One array: its metadata, tensorstore's spec of the store that holds its chunks, and whether all are there."""

    zarray: ZarrArray
    kvstore: Mapping[str, Any]
    whole: bool = field(default=False, kw_only=True)

    @property
    def place(self) -> str:
        """The folder of the chunks, or of the database that holds them."""
        return str(self.kvstore.get("base", self.kvstore)["path"])


def file_store(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """tensorstore's spec of a folder of chunk files, here or in a store; it takes no ".." in a path."""
    path = folder if isinstance(folder, Path) else Path(folder)
    if isinstance(path, Ranged):
        return path.kvstore()
    # following links costs a call for each folder above, and a checkpoint may have thousands of arrays
    whole = path.resolve() if ".." in path.parts else path.absolute()
    return {"driver": "file", "path": f"{whole}/"}


class ArrayReader:
    """Reads ranges of elements. Thread-safe; opens an array when it is first read."""

    def __init__(self, arrays: Mapping[str, StoredArray]) -> None:
        self._arrays = arrays
        self._opened: dict[tuple[str, bool], tensorstore.TensorStore] = {}
        self._context: tensorstore.Context | None = None
        self._threads: ThreadPoolExecutor | None = None
        self._checked: set[Path] = set()
        self._streams = Streams(self._chunk)
        self._lock = threading.Lock()

    def continues(self, key: str) -> bool:
        """Whether chunks are decoded in slices, so that the next range goes on where the last one ended."""
        array = self._arrays[key]
        return is_streamed(array.zarray) and array.zarray.decoded_nbytes > _streamed_from(array.kvstore)

    def read(self, key: str, start: int, stop: int) -> np.ndarray:
        """Elements ``[start, stop)`` in C order: 1-D, carrier dtype.

        Raises:
            ConvkitError: a chunk can't be read or decoded.
        """
        import numpy as np

        array = self._arrays[key]
        zarray = array.zarray
        kind = carrier(zarray.spec.dtype)
        step = _step(zarray)
        try:
            if self.continues(key):
                streamed = self._streams.read(zarray, key, start, stop, self._pool((stop - start) * kind.itemsize))
                if streamed is not None:
                    return streamed
            if isinstance(zarray, Zarray) and is_unpacked_here(zarray) and array.kvstore["driver"] == "file":
                folder, bounds = Path(array.place), (start, stop)
                if _whole_chunks(zarray, start, stop):
                    unpacked = read_unpacked(zarray, folder, key, bounds, self._pool((stop - start) * kind.itemsize))
                    if unpacked is not None:
                        return unpacked
                check(zarray, folder, key, bounds, self._checked)
            store = self._open(key, _whole_chunks(zarray, start, stop))
            found = list(boxes(zarray.spec.shape, start, stop))
            if len(found) == 1 and stop - start <= step:
                return _flat(store[found[0]].read().result(), kind)
            data = np.empty(stop - start, kind)
            for low, high, future in _ahead(store, zarray, step, start, stop):
                data[low - start : high - start] = _flat(future.result(), kind)
            return data
        except (ValueError, OSError, NotImplementedError, OverflowError) as error:
            raise store_error(error, self._arrays[key].place, key) from None

    def frames(self, key: str) -> Frames | None:
        """The chunks as they are packed; None where one isn't stored."""
        array = self._arrays[key]
        return Frames(array.zarray, partial(self._packed, key)) if array.whole else None

    def _packed(self, key: str, name: str) -> Iterator[bytes]:
        """The packed bytes of a chunk, in pieces.

        Raises:
            ConvkitError: they can't be read.
        """
        try:
            opened = self._chunk(key, name)
            if opened is None:
                raise ValueError(f"chunk {name} is missing")
            with contextlib.closing(opened[0]) as packed:
                while piece := packed.read(STORED_PIECE):
                    yield piece
        except (ValueError, OSError) as error:
            raise store_error(error, self._arrays[key].place, key) from None

    def close(self) -> None:
        """Release the arrays and the cache."""
        self._streams.close()
        with self._lock:
            self._opened.clear()
            self._context = None
            if self._threads is not None:
                self._threads.shutdown()
                self._threads = None

    def _pool(self, nbytes: int) -> Executor:
        """The threads that unpack chunks of so many bytes."""
        if nbytes <= LITTLE:
            return Caller()
        with self._lock:
            if self._threads is None:
                self._threads = ThreadPoolExecutor(os.cpu_count() or 1, "unpack")
            return self._threads

    def _open(self, key: str, passing: bool) -> tensorstore.TensorStore:
        """The opened array, with decoded chunks cached unless ``passing``; no I/O, because its metadata is known."""
        import tensorstore

        with self._lock:
            if (key, passing) not in self._opened:
                if self._context is None:
                    pools = {"": TREES, "#kept": self._cache_bytes(), "#passing": 0}
                    self._context = context_of({f"cache_pool{i}": {"total_bytes_limit": n} for i, n in pools.items()})
                array = self._arrays[key]
                self._opened[key, passing] = tensorstore.open(
                    {
                        "driver": array.zarray.driver,
                        "kvstore": dict(array.kvstore),
                        "metadata": array.zarray.to_json(),
                        "recheck_cached_data": False,
                        "cache_pool": "cache_pool#passing" if passing else "cache_pool#kept",
                    },
                    open=True,
                    assume_metadata=True,
                    context=self._context,
                ).result()
            return self._opened[key, passing]

    def _chunk(self, key: str, name: str) -> tuple[Packed, Path | str] | None:
        """The stored bytes of a chunk, and where they lie."""
        array = self._arrays[key]
        if array.kvstore["driver"] == "file" and isinstance(array.zarray, Zarray):
            with contextlib.suppress(FileNotFoundError):
                path = Path(array.place, name)
                return path.open("rb", buffering=0), path
            return None
        store = self._open(key, True).kvstore
        assert store is not None
        packed = stored_bytes(store, name, array.zarray)
        return (packed, f"{array.place}/{name}") if packed is not None else None

    def _cache_bytes(self) -> int:
        return max([CACHE, *(_row_of_chunks(array.zarray) for array in self._arrays.values())])


def _streamed_from(kvstore: Mapping[str, Any]) -> int:
    """The bytes of a chunk from which on it is decoded in slices, by where it lies."""
    if kvstore["driver"] == "file":
        return 0
    in_database = kvstore["driver"] == "ocdbt" and kvstore["base"]["driver"] == "file"
    return SMALL if in_database else LARGE


def _whole_chunks(zarray: ZarrArray, start: int, stop: int) -> bool:
    """Whether a range is whole chunks, so that no other range needs them; never for shards, whose index others need."""
    grain = block(zarray.spec.shape, zarray.chunks)
    return zarray.decoded == zarray.chunks and start % grain == 0 and (stop % grain == 0 or stop == zarray.spec.size)


def _step(zarray: ZarrArray) -> int:
    """Number of elements to request at once: whole chunks, several if they are small."""
    grain = block(zarray.spec.shape, zarray.decoded)
    return max(1, IN_FLIGHT // 4 // (grain * zarray.spec.itemsize)) * grain


def _ahead(
    store: tensorstore.TensorStore, zarray: ZarrArray, step: int, start: int, stop: int
) -> Iterator[tuple[int, int, Any]]:
    """Reads of the elements ``[start, stop)`` in order, some started ahead of the one that is yielded."""
    pending: deque[tuple[int, int, Any]] = deque()
    flying = 0
    for low in range(start - start % step, stop, step):
        position = max(low, start)
        for box in boxes(zarray.spec.shape, position, min(low + step, stop)):
            size = box_size(box)
            while pending and (flying + size) * zarray.spec.itemsize > IN_FLIGHT:
                yield pending[0]
                first, last, _ = pending.popleft()
                flying -= last - first
            read = store[box].read()
            read.force()
            pending.append((position, position + size, read))
            position += size
            flying += size
    yield from pending


def context_of(settings: dict[str, Any]) -> tensorstore.Context:
    """A tensorstore context, after limiting glibc to two heaps before tensorstore's threads start."""
    import tensorstore

    limit_heaps(2)
    return tensorstore.Context(settings)


def store_error(error: Exception, place: str, key: str | None = None, verb: str = "read") -> ConvkitError:
    """tensorstore's error in one line: the file that it names, else ``place``, and the reason."""
    text = _ADDED.sub("", str(error))
    match = _FILE_ERROR.search(text)
    if match and "/" not in match[1]:  # a field of the metadata
        match = None
    remedy = "fetch the file again" if verb == "read" else "check free space and permissions"
    if text.startswith(("PERMISSION_DENIED", "UNAUTHENTICATED")):
        remedy = "check its credentials, which tensorstore looks for by itself"
    return ConvkitError(
        f"can't be {verb}: {match[2] if match else text}", path=match[1] if match else place, key=key, remedy=remedy
    )


def _flat(data: np.ndarray, kind: np.dtype[Any]) -> np.ndarray:
    import numpy as np

    return np.ascontiguousarray(data).reshape(-1).view(kind)


def _row_of_chunks(zarray: ZarrArray) -> int:
    """Decoded bytes of one row of chunks."""
    columns = (-(-n // c) for n, c in zip(zarray.spec.shape[1:], zarray.decoded[1:], strict=True))
    return zarray.decoded_nbytes * math.prod(columns)
