"""Writing the elements of zarr arrays through tensorstore, asynchronously and in bounded memory."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from convkit.checkpoint.tensors import value_dtype
from convkit.formats.arrays.budget import Budget
from convkit.formats.arrays.packing import is_packed_here, packed_chunks
from convkit.formats.arrays.ranges import box_size, boxes
from convkit.formats.arrays.store import IN_FLIGHT, StoredArray, context_of, store_error

if TYPE_CHECKING:
    import numpy as np
    import tensorstore


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
                        self._put(key, store.kvstore, name, b"".join(pieces))
                else:
                    self._budget.take(part.nbytes)
                    written = store[box].write(part)
                    self._follow(key, written.commit, part.nbytes)
                    copies.append(written.copy)
            for copy in copies:
                copy.result()
        except (ValueError, OSError) as error:
            raise store_error(error, array.place, key, verb="written") from None

    def put(self, key: str, name: str, packed: bytes) -> None:
        """Write a chunk as it is packed.

        Raises:
            ConvkitError: it can't be written.
        """
        try:
            store = self._open(key).kvstore
            assert store is not None
            self._put(key, store, name, packed)
        except (ValueError, OSError) as error:
            raise store_error(error, self._arrays[key].place, key, verb="written") from None

    def _put(self, key: str, store: tensorstore.KvStore, name: str, packed: bytes) -> None:
        self._budget.take(len(packed))
        self._follow(key, store.write(name, packed), len(packed))

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
    return context_of({"file_io_sync": False})
