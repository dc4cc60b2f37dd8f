"""Describe one leaf to make: where its bytes come from, and for which output."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from convkit.checkpoint import Leaf, Tensors, TensorSpec
from convkit.execute.slabs import Piece
from convkit.plan.step import Step


@dataclass
class Job:
    """One leaf to make, with its origin and its output (``target``, ``complement``).

    ``digest_of`` names the source leaf that has the same bytes. ``stored`` says that the reader has the leaf as it is
    stored somewhere.
    """

    role: str
    key: str
    spec: TensorSpec
    reader: Tensors
    pieces: list[Piece]
    step: Step | None = None
    digest_of: str | None = None
    stored: bool = False
    open_runs: int = 0
    blocks: dict[int, list[bytes]] = field(default_factory=dict)

    def origins(self) -> Iterator[tuple[Tensors, str]]:
        """The stored leaves that the leaf is made of, each with what holds it; some of them more than once."""
        for key in dict.fromkeys(piece.source for piece in self.pieces):
            yield from self.reader.origins(key)

    def files(self) -> dict[str, Path] | None:
        """The files that may be copied unchanged: those of the source leaf, if it has separate files."""
        if self.digest_of is None or self.reader.leaves[self.digest_of].spec != self.spec:
            return None
        return self.reader.leaf_files(self.digest_of)

    def decoded_together(self) -> int:
        """How many elements are decoded together in the source, if the leaf has its elements in the same order."""
        if len(self.pieces) != 1:
            return 1
        (piece,) = self.pieces
        ordered = (piece.source_offset, piece.source_strides) == (piece.target_offset, piece.target_strides)
        return self.reader.granularity(piece.source) if ordered else 1


def copies(role: str, reader: Tensors, leaves: dict[str, Leaf] | None = None, *, stored: bool = False) -> list[Job]:
    """Make a job for each tensor (only of ``leaves``, if given) that is made from the one in ``reader``."""
    return [
        Job(role, key, leaf.spec, reader, [_whole(key, leaf.spec)] if leaf.spec.size else [], stored=stored)
        for key, leaf in (reader.leaves if leaves is None else leaves).items()
        if leaf.spec is not None
    ]


def _whole(key: str, spec: TensorSpec) -> Piece:
    return Piece(key, key, (spec.size,), 0, (1,), 0, (1,))
