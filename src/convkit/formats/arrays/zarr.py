"""What the arrays of zarr's two versions have in common: a shape, a dtype, and a grid of chunks.

:mod:`~convkit.formats.arrays.zarr2` and :mod:`~convkit.formats.arrays.zarr3` say how each is described and named.
"""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeGuard

from convkit.checkpoint import TensorSpec

REFETCH = "fetch the file again"


@dataclass(frozen=True, slots=True)
class ZarrArray(ABC):
    """Shape, dtype and storage of one array. Chunks at the border are stored whole."""

    spec: TensorSpec
    #: shape of a chunk, which is one object of the store
    chunks: tuple[int, ...]

    #: tensorstore's name for the version
    driver: ClassVar[str]
    #: what the array's metadata is called in the store
    name: ClassVar[str]

    @property
    def grid(self) -> tuple[int, ...]:
        """Chunks along each axis."""
        return tuple(math.ceil(n / c) for n, c in zip(self.spec.shape, self.chunks, strict=True))

    @property
    def chunk_nbytes(self) -> int:
        """Bytes of every chunk before compression."""
        return math.prod(self.chunks) * self.spec.itemsize

    @property
    def decoded(self) -> tuple[int, ...]:
        """Shape of what is decoded together: a chunk, or one of the several that a shard holds."""
        return self.chunks

    @property
    def decoded_nbytes(self) -> int:
        """Bytes of what is decoded together."""
        return math.prod(self.decoded) * self.spec.itemsize

    @property
    @abstractmethod
    def compressor(self) -> dict[str, Any] | None:
        """What packs the chunks, as a ``.zarray`` says it: ``{"id": "zstd", "level": 1}``."""

    @property
    @abstractmethod
    def packing(self) -> str | None:
        """The last codec of what is decoded together; None where it is stored as it is."""

    @property
    @abstractmethod
    def sparse(self) -> bool:
        """Whether a chunk may be absent: its elements are the fill value then."""

    @property
    @abstractmethod
    def raw(self) -> bool:
        """Whether the array is one chunk that holds its elements as memory does."""

    @abstractmethod
    def chunk_name(self, position: Sequence[int]) -> str:
        """The name of the chunk at that position of the grid."""

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """The array's metadata, as it is stored."""

    def chunk_names(self) -> Iterator[str]:
        """Names of all chunks, in C order."""
        for position in itertools.product(*(range(n) for n in self.grid)):
            yield self.chunk_name(position)


def is_shape(value: Any, least: int = 0) -> TypeGuard[list[int]]:
    """Whether a JSON value is a list of whole numbers that are large enough."""
    return isinstance(value, list) and all(type(n) is int and n >= least for n in value)
