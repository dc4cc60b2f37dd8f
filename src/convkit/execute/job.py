"""Describe one leaf to make: where its bytes come from, and for which output."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct, field

from convkit.checkpoint import Leaf, Tensors, TensorSpec
from convkit.mapping.ops import Overflow
from convkit.plan.pieces import Piece
from convkit.plan.step import Step

if TYPE_CHECKING:
    import numpy as np


class Held:
    """Parts of sources that several threads need for one leaf: of each source the last part that was read."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._parts: dict[str, _Part] = {}

    def part(self, key: str, low: int, high: int, read: Callable[[], np.ndarray]) -> np.ndarray:
        """Elements ``[low, high)`` of a source; whoever asks first reads them, and others wait."""
        with self._lock:
            part = self._parts.get(key)
            if part is None or part.span != (low, high):
                part = self._parts[key] = _Part((low, high))
        with part.lock:
            if part.data is None:
                part.data = read()
            return part.data

    def clear(self) -> None:
        """Drop them."""
        with self._lock:
            self._parts.clear()


class _Part(Struct):
    span: tuple[int, int]
    data: np.ndarray | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


class Job(Struct):
    """One leaf to make, with its origin and its output (``target``, ``complement``).

    ``digest_of`` names the source leaf that has the same bytes. ``stored`` says that the reader has the leaf as it is
    stored somewhere, and ``carried`` that its chunks may be taken from there as they are packed. ``held`` is there
    while several threads make the leaf.
    """

    role: str
    key: str
    spec: TensorSpec
    reader: Tensors
    pieces: list[Piece]
    step: Step | None = None
    digest_of: str | None = None
    stored: bool = False
    carried: bool = False
    held: Held | None = None
    overflow: Overflow = field(default_factory=Overflow)
    open_runs: int = 0
    blocks: dict[int, list[bytes]] = field(default_factory=dict)

    @property
    def journal_key(self) -> str:
        """Its name in the journal of the run."""
        return f"{self.role}:{self.key}"

    def origins(self) -> Iterator[tuple[Tensors, str]]:
        """The stored leaves that the leaf is made of, each with what holds it; some of them more than once."""
        for key in dict.fromkeys(piece.source for piece in self.pieces):
            yield from self.reader.origins(key)

    def files(self) -> dict[str, Path] | None:
        """The files that may be copied unchanged: those of the source leaf, if it has separate files."""
        if self.digest_of is None or self.reader.leaves[self.digest_of].spec != self.spec:
            return None
        return self.reader.leaf_files(self.digest_of)

    def packed(self) -> object | None:
        """The chunks that may be taken as they are packed: those of the stored leaf that this one is."""
        if not self.carried or not self.pieces:
            return None
        ((tensors, key),) = self.origins()
        return tensors.packed(key)

    def reads_across(self) -> bool:
        """Whether parts of very many rows are read for each run, so that fewer and longer runs cost less."""
        return any(piece.crosswise and self.reader.lies_open(piece.source) for piece in self.pieces)

    def decoded_together(self) -> int:
        """How many elements are decoded together in the source, if the leaf has its elements in the same order."""
        if len(self.pieces) != 1:
            return 1
        (piece,) = self.pieces
        ordered = (piece.source_offset, piece.source_strides) == (piece.target_offset, piece.target_strides)
        return self.reader.granularity(piece.source) if ordered else 1


def copies(
    role: str,
    reader: Tensors,
    leaves: dict[str, Leaf] | None = None,
    *,
    stored: bool = False,
    carried: bool = False,
) -> list[Job]:
    """Make a job for each tensor (only of ``leaves``, if given) that is made from the one in ``reader``."""
    return [
        Job(role, key, spec, reader, [_whole(key, spec)] if spec.size else [], stored=stored, carried=carried)
        for key, leaf in (reader.leaves if leaves is None else leaves).items()
        if (spec := leaf.spec) is not None
    ]


def _whole(key: str, spec: TensorSpec) -> Piece:
    return Piece(key, key, (spec.size,), 0, (1,), 0, (1,))
