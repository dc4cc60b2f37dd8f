"""Read a checkpoint: an index of leaves, whose elements are read on demand.

:class:`Tensors` is anything that has leaves and can read them: an opened checkpoint, or a view of one
(:mod:`convkit.checkpoint.views`). A format of ``convkit.formats`` opens a :class:`Checkpoint`, which knows
bytes and never a layout. ``convkit.testing`` holds the laws that every format obeys.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from msgspec import Struct

from convkit.checkpoint.tensors import TensorSpec
from convkit.errors import ConvkitError

if TYPE_CHECKING:
    import numpy as np

#: bytes of a block: large enough for speed, small enough for a processor's caches
BLOCK = 2 << 20


class Opaque(Struct, frozen=True):
    """A serialized object that convkit carries as bytes and never interprets."""

    data: bytes
    kind: str


class UnknownObject(Struct, frozen=True):
    """An object of the program that wrote the checkpoint: only its kind is known (``argparse.Namespace``).

    Nothing of its content is read, so that no format can hold it.
    """

    kind: str


class Leaf(Struct, frozen=True):
    """One entry of a checkpoint: a tensor (``spec``) or a small non-tensor value (``spec`` is None).

    ``value`` is None, bool, int, float, str, :class:`Opaque`, :class:`UnknownObject`, or an empty list
    or dict.
    ``same_as`` names the leaf whose bytes this one shares in the file (a link, a tied name).
    """

    key: str
    spec: TensorSpec | None = None
    value: Any = None
    same_as: str | None = None


class Tensors(ABC):
    """Leaves, whose tensors are read slice by slice. Reading is thread-safe."""

    #: every leaf by key, in the order in which the file holds them
    leaves: dict[str, Leaf]

    @abstractmethod
    def read(self, key: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Elements ``[start, stop)`` of a tensor in C order: 1-D, in the carrier dtype; not to be written to.

        Raises:
            ConvkitError: the bytes can't be read; names file, key and remedy.
        """

    def granularity(self, key: str) -> int:
        """How many elements are decoded together: ranges that start and end at its multiples decode none twice.

        It is 1 where any range can be read at no extra cost. :meth:`blocks` reads by it.
        """
        return 1

    def continues(self, key: str) -> bool:
        """Whether ranges that follow one another decode nothing twice, wherever they end, and take no memory beside.

        Elements may be decoded together nevertheless: a range alone costs as much as those before it.
        """
        return False

    def lies_open(self, key: str) -> bool:
        """Whether elements lie somewhere as they are and in order, so that :meth:`rows` costs no more than they do."""
        return False

    def rows(self, key: str, starts: Sequence[int], length: int) -> np.ndarray:
        """The ``length`` elements from each of some positions on: 2-D, in the carrier dtype.

        Raises:
            ConvkitError: the bytes can't be read.
        """
        import numpy as np

        return np.array([self.read(key, start, start + length) for start in starts])

    def blocks(
        self, key: str, size: int = BLOCK, *, start: int = 0, stop: int | None = None
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Yield elements ``[start, stop)`` of a tensor in C order, block by block, each with its first index.

        A block has at most ``size`` bytes. Elements that are decoded together are read once, whole, and then cut.

        Raises:
            ConvkitError: the bytes can't be read.
        """
        spec = self.spec(key)
        stop = spec.size if stop is None else stop
        step, grain = max(1, size // spec.itemsize), 1 if self.continues(key) else self.granularity(key)
        reach = max(1, step // grain) * grain
        while start < stop:
            end = min(stop, start - start % reach + reach)
            data = self.read(key, start, end)
            for low in range(0, data.size, step):
                yield start + low, data[low : low + step]
            start = end

    def origins(self, key: str) -> Iterator[tuple[Tensors, str]]:
        """The stored leaves that this one is made of, each with what holds it; a view names those below it."""
        yield self, key

    def spec(self, key: str) -> TensorSpec:
        """Shape and dtype of a tensor.

        Raises:
            ConvkitError: there isn't a tensor of this name.
        """
        leaf = self.leaves.get(key)
        if leaf is None or leaf.spec is None:
            where = getattr(self, "path", None)
            raise ConvkitError("holds no tensor of this name", path=where, key=key, remedy="see convkit inspect")
        return leaf.spec

    def leaf_files(self, key: str) -> dict[str, Path] | None:
        """The files that hold only this leaf, by their names within the leaf.

        :meth:`Writer.copy_leaf` may copy them. None where a leaf has no files of its own.
        """
        return None

    def packed(self, key: str) -> object | None:
        """The leaf's chunks as they are stored, for :meth:`Writer.copy_chunks` of a kindred format."""
        return None


class Checkpoint(Tensors):
    """An opened checkpoint. Opening reads the index only. Usable as a context manager."""

    #: what was opened (a file or a folder)
    path: Path
    #: name of the format
    format: str
    #: what the format stores beside the leaves (JSON values only)
    metadata: dict[str, Any]
    #: the model's config, where the checkpoint itself holds it
    config: dict[str, Any] | None = None
    #: the leaves that a description within the checkpoint lists, here or not; empty where there is none
    described: frozenset[str] = frozenset()

    def files(self) -> list[Path]:
        """The files that hold the bytes."""
        return [self.path]

    def leaf_bytes(self) -> dict[Path, list[tuple[int, int]]]:
        """Where tensors lie in the files as they are: byte ranges ``[start, stop)`` that the leaves' digests cover.

        Each range holds all elements of a leaf, or a part of them, in C order and undecoded, and nothing else. Bytes
        that must be decoded first are in none.
        """
        return {}

    def check_sums(self, threads: int = 1, share: tuple[int, int] = (0, 1)) -> None:
        """Read all bytes whose checksums the format itself stores, and compare them.

        Args:
            threads: that read at a time.
            share: ``(first, step)``: of the checksums only each ``step``-th, from the ``first`` on.

        Raises:
            ConvkitError: one differs; names the file and the record.
        """

    def close(self) -> None:
        """Close the files."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
