"""Chunks of zarr arrays as bytes in memory, so that the caller decides where they go.

zstd runs in tensorstore's threads, into its store in memory; gzip and unpacked chunks need the calling thread alone.
Bytes in flight are bounded: those of chunks that are being encoded, or whose bytes nobody has taken yet.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from convkit.checkpoint.tensors import value_dtype
from convkit.formats.arrays.budget import Budget
from convkit.formats.arrays.packing import is_packed_here, packed_chunks
from convkit.formats.arrays.ranges import box_size, boxes
from convkit.formats.arrays.store import IN_FLIGHT
from convkit.formats.arrays.store_writer import writing_context
from convkit.formats.arrays.zarr import ZarrArray

if TYPE_CHECKING:
    import numpy as np
    import tensorstore

#: bytes that are taken at once from tensorstore: larger blocks come from the system each time, page by page
_PIECE = 1 << 20


@dataclass(frozen=True, eq=False)
class Encoding:
    """Chunks that follow one another in C order, being encoded.

    Attributes:
        first: the number of the first chunk.
        count: how many there are.
        chunks: yields the bytes of each chunk, in pieces; for one caller, once they are there.
        give_back: lets as many bytes be encoded instead.
        future: done when the bytes are there; None if they are.
    """

    first: int
    count: int
    chunks: Callable[[], Iterable[Iterable[bytes | memoryview]]]
    give_back: Callable[[], None]
    future: Any = None

    def done(self) -> bool:
        """Whether the bytes are there, or won't be."""
        return self.future is None or bool(self.future.done())

    def when_done(self, call: Callable[[], None]) -> None:
        """Call once the bytes are there, in any thread; at once if they are."""
        if self.future is None:
            call()
        else:
            self.future.add_done_callback(lambda _: call())
            self.future.force()


class ChunkEncoder:
    """Encodes ranges that are whole chunks. Thread-safe; an array is opened when it is first encoded."""

    def __init__(self, arrays: Mapping[str, ZarrArray]) -> None:
        self._arrays = arrays
        self._opened: dict[str, tensorstore.TensorStore] = {}
        self._context: tensorstore.Context | None = None
        self._lock = threading.Lock()
        self._budget = Budget(IN_FLIGHT)

    def encode(self, key: str, start: int, data: np.ndarray, chunk: int, into: Callable[[Encoding], None]) -> None:
        """Begin to encode elements from ``start`` on.

        Args:
            key: the array's.
            start: the first element.
            data: 1-D, carrier dtype. It may be reused when this returns, and the bytes were taken of what is encoded
                without a future.
            chunk: the number of the first chunk.
            into: takes what is being encoded, in C order, in this thread.
        """
        import numpy as np

        zarray = self._arrays[key]
        # elements may be unaligned
        values = np.require(data.view(value_dtype(zarray.spec.dtype)), requirements=["C", "A"])
        position = 0
        copies = []
        for box in boxes(zarray.spec.shape, start, start + data.size):
            sides = [side.stop - side.start for side in box]
            part = values[position : position + box_size(box)].reshape(sides)
            position += part.size
            count = math.prod(-(-side // length) for side, length in zip(sides, zarray.chunks, strict=True))
            give_back = partial(self._budget.give, part.nbytes)
            self._budget.take(part.nbytes)
            if is_packed_here(zarray):
                chunks = (pieces for _, pieces in packed_chunks(zarray, box, part))
                into(Encoding(chunk, count, partial(iter, chunks), give_back))
            else:
                store = self._open(key)
                assert store.kvstore is not None
                written = store[box].write(part)
                copies.append(written.copy)
                names = list(zarray.chunk_names(chunk, chunk + count))
                into(Encoding(chunk, count, partial(_taken, store.kvstore, names), give_back, written.commit))
            chunk += count
        for copy in copies:
            copy.result()

    def forget(self, key: str) -> None:
        """Close an array of which all is encoded."""
        with self._lock:
            self._opened.pop(key, None)

    def _open(self, key: str) -> tensorstore.TensorStore:
        """The opened array; its chunks are held apart from those of others."""
        import tensorstore

        with self._lock:
            if key not in self._opened:
                if self._context is None:
                    self._context = writing_context()
                zarray = self._arrays[key]
                self._opened[key] = tensorstore.open(
                    {
                        "driver": zarray.driver,
                        "kvstore": {"driver": "memory", "path": f"{key}/"},
                        "metadata": zarray.to_json(),
                        # otherwise a chunk of nothing but fill values is left out, and Orbax refuses the array
                        "store_data_equal_to_fill_value": True,
                    },
                    open=True,
                    assume_metadata=True,
                    context=self._context,
                ).result()
            return self._opened[key]


def _taken(store: tensorstore.KvStore, names: Sequence[str]) -> Iterator[Iterator[bytes]]:
    """Chunks in tensorstore's memory, which are removed from it."""
    for name in names:
        yield _pieces(store, name)
        store.write(name, None).result()


def _pieces(store: tensorstore.KvStore, name: str) -> Iterator[bytes]:
    """A value piece by piece; its length is known only at its end."""
    at = 0
    while True:
        try:
            found = store.read(name, byte_range=slice(at, at + _PIECE)).result()
        except ValueError:  # it is shorter
            yield store.read(name, byte_range=slice(at, None)).result().value
            return
        if found.state != "value":
            raise ValueError(f"chunk {name} was encoded, but isn't there")
        yield found.value
        at += len(found.value)
