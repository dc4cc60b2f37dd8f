"""Reading and writing the elements of zarr arrays through tensorstore, asynchronously and in bounded memory.

A range of elements is a few boxes (:mod:`~convkit.formats.arrays.ranges`), read or written concurrently, up to
:data:`IN_FLIGHT` bytes at a time. If a range ends within a chunk, decoded chunks stay in a cache for the next range:
:data:`CACHE` bytes, or one row of chunks if that is more. Chunks that are ranges of their array are decoded
without tensorstore, in slices (:mod:`~convkit.formats.arrays.streamed`).
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import re
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convkit.checkpoint.source_files import Ranged
from convkit.checkpoint.tensors import carrier, value_dtype
from convkit.checkpoint.threads import LITTLE, Caller
from convkit.errors import ConvkitError
from convkit.formats.arrays.budget import Budget
from convkit.formats.arrays.chunk_stream import Packed
from convkit.formats.arrays.packing import is_packed_here, packed_chunks
from convkit.formats.arrays.ranges import block, box_size, boxes
from convkit.formats.arrays.stored_bytes import stored_bytes
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
#: chunks of more bytes are decoded in slices wherever they lie, smaller ones only in files: tensorstore asks a store or
#: a database for several at a time
LARGE = 64 << 20
#: bytes of database trees in the cache
TREES = 32 << 20
#: glibc's ``mallopt`` parameters: number of heaps, and smallest block that is mapped on its own
_M_ARENA_MAX, _M_MMAP_THRESHOLD = -8, -3
#: how tensorstore names a file that it can't read or write, and the debugging details that it adds
_FILE_ERROR = re.compile(r'"([^"]+)": (.*)')
_ADDED = re.compile(r" \[(tensorstore_spec|os_error_code|source|http_response)\w*='.*")


@dataclass(frozen=True, slots=True)
class StoredArray:
    """One array: its metadata, and tensorstore's spec of the store that holds its chunks."""

    zarray: ZarrArray
    kvstore: Mapping[str, Any]

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
        in_files = array.kvstore["driver"] == "file"
        return is_streamed(array.zarray) and (in_files or array.zarray.decoded_nbytes > LARGE)

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
                    self._context = _context({f"cache_pool{i}": {"total_bytes_limit": n} for i, n in pools.items()})
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


class ArrayWriter:
    """Writes ranges that are whole chunks. Thread-safe; bytes in flight are bounded.

    Files are not synced one by one: the commit does that once. gzip runs in the calling thread, everything else in
    tensorstore's threads.
    """

    def __init__(self, arrays: Mapping[str, StoredArray]) -> None:
        self._arrays = arrays
        self._opened: dict[str, tensorstore.TensorStore] = {}
        self._commits: dict[str, list[Any]] = {key: [] for key in arrays}
        self._context: tensorstore.Context | None = None
        self._lock = threading.Lock()
        self._budget = Budget(IN_FLIGHT)

    def write(self, key: str, start: int, data: np.ndarray) -> None:
        """Write elements from ``start`` on; ``data`` may be reused when this returns.

        Raises:
            ConvkitError: they can't be written.
        """
        import numpy as np

        array = self._arrays[key]
        # elements may be unaligned
        values = np.require(data.view(value_dtype(array.zarray.spec.dtype)), requirements=["C", "A"])
        position = 0
        copies = []
        try:
            store = self._open(key)
            for box in boxes(array.zarray.spec.shape, start, start + data.size):
                part = values[position : position + box_size(box)].reshape([side.stop - side.start for side in box])
                position += part.size
                if array.zarray.packing == "gzip" and is_packed_here(array.zarray):
                    assert store.kvstore is not None
                    for name, pieces in packed_chunks(array.zarray, box, part):
                        packed = b"".join(pieces)
                        self._budget.take(len(packed))
                        self._follow(key, store.kvstore.write(name, packed), len(packed))
                else:
                    self._budget.take(part.nbytes)
                    written = store[box].write(part)
                    self._follow(key, written.commit, part.nbytes)
                    copies.append(written.copy)
            for copy in copies:
                copy.result()
        except (ValueError, OSError) as error:
            raise store_error(error, array.place, key, verb="written") from None

    def settle(self, key: str) -> None:
        """Wait until the chunks that were written so far, and the array's metadata, are stored.

        Raises:
            ConvkitError: they can't be written.
        """
        try:
            self._open(key)
            with self._lock:
                commits = list(self._commits[key])
            for commit in commits:
                commit.result()
        except (ValueError, OSError) as error:
            raise store_error(error, self._arrays[key].place, key, verb="written") from None

    def finish(self, key: str) -> None:
        """Wait until all of the array's chunks, and its metadata, are stored, and let go of it.

        Raises:
            ConvkitError: they can't be written.
        """
        self.settle(key)
        with self._lock:
            self._commits[key] = []
            self._opened.pop(key, None)

    def close(self) -> None:
        """Release the arrays; waits for writes in flight, so that nothing is written after this."""
        for commits in self._commits.values():
            for commit in commits:
                commit.exception()
            commits.clear()
        self._opened.clear()

    def _follow(self, key: str, future: Any, nbytes: int) -> None:
        """Start a write of ``nbytes``; :meth:`finish` waits for it."""
        future.add_done_callback(partial(self._budget.give, nbytes))
        future.force()
        with self._lock:
            self._commits[key].append(future)

    def _open(self, key: str) -> tensorstore.TensorStore:
        import tensorstore

        with self._lock:
            if key not in self._opened:
                if self._context is None:
                    self._context = writing_context()
                array = self._arrays[key]
                self._opened[key] = tensorstore.open(
                    {
                        "driver": array.zarray.driver,
                        "kvstore": dict(array.kvstore),
                        "metadata": array.zarray.to_json(),
                        # otherwise a chunk of nothing but fill values is left out, and Orbax refuses the array
                        "store_data_equal_to_fill_value": True,
                    },
                    open=True,
                    create=True,
                    context=self._context,
                ).result()
            return self._opened[key]


def writing_context() -> tensorstore.Context:
    """tensorstore's context for writing without syncing: the commit syncs all files at once."""
    return _context({"file_io_sync": False})


def _context(settings: dict[str, Any]) -> tensorstore.Context:
    """A tensorstore context, after limiting glibc to two heaps before tensorstore's threads start.

    glibc makes a heap for each thread and keeps freed memory in it: measured, 150 MiB more.
    """
    import tensorstore

    _tell_glibc(_M_ARENA_MAX, 2)
    return tensorstore.Context(settings)


def give_back_blocks(nbytes: int) -> None:
    """Make glibc return blocks of at least ``nbytes`` to the system when they are freed.

    glibc keeps freed blocks of up to 32 MiB for reuse, but compressed and decompressed chunks all differ in length, so
    most of that memory lies idle. The price is the time to map the pages again.
    """
    _tell_glibc(_M_MMAP_THRESHOLD, nbytes)


def _tell_glibc(name: int, value: int) -> None:
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(name, value)


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
