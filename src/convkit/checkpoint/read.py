"""An opened checkpoint: an index of leaves whose bytes are read on demand, and a place to write them.

A format (one file of ``convkit.formats`` each) implements :class:`Checkpoint` and :class:`Writer`
and is described by a :class:`Format`. It knows bytes, never a layout. ``convkit.testing`` holds the
laws that all three obey.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convkit.checkpoint.tensors import TensorSpec

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, slots=True)
class Opaque:
    """A serialized object that convkit carries as bytes and never interprets."""

    data: bytes
    kind: str


@dataclass(frozen=True, slots=True)
class Leaf:
    """One entry of a checkpoint: a tensor (``spec``) or a small non-tensor value (``spec`` is None).

    ``value`` is None, bool, int, float, str, :class:`Opaque`, or an empty list or dict.
    ``same_as`` names the leaf whose bytes this one shares in the file (a link, a tied name).
    """

    key: str
    spec: TensorSpec | None = None
    value: Any = None
    same_as: str | None = None


class Checkpoint(ABC):
    """A source of leaves. Opening reads the index only; a tensor is read slice by slice.

    Reading is thread-safe. Usable as a context manager.
    """

    #: what was opened (a file or a folder)
    path: Path
    #: name of the format
    format: str
    #: every leaf by key, in the order in which the file holds them
    leaves: dict[str, Leaf]
    #: what the format says of itself beside the leaves (JSON values only)
    metadata: dict[str, Any]
    #: the model's config, where the checkpoint itself holds it
    config: dict[str, Any] | None = None

    @abstractmethod
    def read(self, key: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Elements ``[start, stop)`` of a tensor in C order: 1-D, in the carrier dtype.

        Raises:
            ConvkitError: the bytes can't be read; names file, key and remedy.
        """

    def view(self, key: str) -> np.ndarray | None:
        """The whole tensor in its shape, carrier dtype, memory-mapped: no byte is read or copied.

        None where the bytes must be decoded first (compressed chunks).
        """
        return None

    def granularity(self, key: str) -> int:
        """Elements that are decoded together, from a multiple on: a range within costs as much as all of them.

        Who needs such a leaf in smaller pieces reads it by this many, or holds it; 1 where any range will do.
        """
        return 1

    def leaf_files(self, key: str) -> dict[str, Path] | None:
        """The files that hold this leaf and nothing else, by their names within the leaf.

        :meth:`Writer.copy_leaf` may take them as they are. None where a leaf has no files of its own.
        """
        return None

    def files(self) -> list[Path]:
        """The files that hold the bytes."""
        return [self.path]

    def close(self) -> None:  # noqa: B027 - most formats hold nothing open
        """Let go of the files."""

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
