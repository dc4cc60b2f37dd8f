"""Base of arrays in both versions of zarr: a shape, a dtype and a grid of chunks.

:mod:`~convkit.formats.arrays.zarr2` and :mod:`~convkit.formats.arrays.zarr3` add each version's metadata and names.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeGuard

from convkit.checkpoint import TensorSpec
from convkit.errors import ConvkitError
from convkit.formats.arrays.ranges import block

REFETCH = "fetch the file again"
#: most chunks of one array, which are looked up one by one: a tebibyte in chunks of a mebibyte
COUNT_LIMIT = 1 << 20
#: most bytes of a packed chunk, which is unpacked in memory as a whole: above any that one device writes
PACKED_LIMIT = 1 << 33


@dataclass(frozen=True, slots=True)
class ZarrArray(ABC):
    """Shape, dtype and storage of one array. Chunks at the border are stored whole."""

    spec: TensorSpec
    #: shape of a chunk, which is one object of the store
    chunks: tuple[int, ...]

    #: tensorstore's name for the version
    driver: ClassVar[str]
    #: name of the array's metadata in the store
    name: ClassVar[str]

    @property
    def grid(self) -> tuple[int, ...]:
        """Number of chunks along each axis."""
        return tuple(-(-n // c) for n, c in zip(self.spec.shape, self.chunks, strict=True))

    @property
    def chunk_nbytes(self) -> int:
        """Bytes of every chunk before compression."""
        return math.prod(self.chunks) * self.spec.itemsize

    @property
    def decoded(self) -> tuple[int, ...]:
        """Shape of the unit of decoding: a chunk, or an inner chunk of a shard."""
        return self.chunks

    @property
    def decoded_nbytes(self) -> int:
        """Bytes of the unit of decoding."""
        return math.prod(self.decoded) * self.spec.itemsize

    @property
    @abstractmethod
    def compressor(self) -> dict[str, Any] | None:
        """The chunks' compressor as in a ``.zarray``: ``{"id": "zstd", "level": 1}``."""

    @property
    @abstractmethod
    def packing(self) -> str | None:
        """The last codec of the unit of decoding; None if it is stored as it is."""

    @property
    @abstractmethod
    def sparse(self) -> bool:
        """Whether a chunk may be absent, its elements then being the fill value."""

    @property
    @abstractmethod
    def raw(self) -> bool:
        """Whether the array is one chunk with its elements as in memory."""

    @abstractmethod
    def chunk_name(self, position: Sequence[int]) -> str:
        """The name of the chunk at a position of the grid."""

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """The array's metadata as it is stored."""

    @property
    def chunk_count(self) -> int:
        """Number of chunks."""
        return math.prod(self.grid)

    @property
    def row(self) -> int:
        """Elements of a row of chunks; all elements if chunks run along an axis other than the first."""
        return block(self.spec.shape, self.chunks)

    @property
    def row_chunks(self) -> int:
        """Number of chunks of a row."""
        return self.chunk_count // max(1, -(-self.spec.size // self.row))

    def chunk_names(self, start: int = 0, stop: int | None = None) -> Iterator[str]:
        """Names of all chunks in C order, or of those with the numbers ``[start, stop)`` in it."""
        grid = self.grid
        for number in range(start, self.chunk_count if stop is None else stop):
            yield self.chunk_name(_position(number, grid))

    def chunk_numbers(self, start: int, stop: int) -> range:
        """The numbers in C order of the chunks of a range of elements between multiples of a row of chunks."""
        row, count = self.row, self.row_chunks
        return range(start // row * count, -(-stop // row) * count)

    def is_chunk(self, name: str) -> bool:
        """Whether one of the chunks has this name."""
        grid = self.grid
        position = tuple(int(n) for n in re.findall(r"\d{1,19}", name))[: len(grid)]
        inside = len(position) == len(grid) and all(n < m for n, m in zip(position, grid, strict=True))
        return inside and self.chunk_name(position) == name

    def check_size(self, path: Path | str) -> None:
        """Check that it has no more chunks, and no larger ones, than are read.

        Raises:
            ConvkitError: over :data:`COUNT_LIMIT` or :data:`PACKED_LIMIT`.
        """
        count = self.chunk_count
        if count > COUNT_LIMIT:
            problem = f"has {count} chunks, over {COUNT_LIMIT}, the most that are read"
            raise ConvkitError(problem, path=path, remedy="fetch the file again, or save it in larger chunks")
        if self.packing is not None and self.decoded_nbytes > PACKED_LIMIT:
            problem = (
                f"has packed chunks of {self.decoded_nbytes} bytes, over {PACKED_LIMIT}, the most that are unpacked"
            )
            raise ConvkitError(problem, path=path, remedy="fetch the file again, or save it in smaller chunks")


def _position(number: int, grid: Sequence[int]) -> tuple[int, ...]:
    """The position of the chunk of this number in C order."""
    position = []
    for length in reversed(grid):
        number, at = divmod(number, length)
        position.append(at)
    return tuple(reversed(position))


def is_shape(value: Any, least: int = 0) -> TypeGuard[list[int]]:
    """Whether a JSON value is a list of whole numbers of at least ``least``."""
    return isinstance(value, list) and all(type(n) is int and n >= least for n in value)
