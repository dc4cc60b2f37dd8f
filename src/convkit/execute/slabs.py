"""Move elements: cut strided pieces to a run of target elements, and copy them fast.

A *slab* is a run of consecutive elements of one target leaf, a few MiB at most: the unit of work.
A piece that lies across its border is cut into boxes (:func:`clip`); each box is a strided copy
(:func:`copy_box`). Where source and target run along different axes, the copy goes tile by tile
through a small padded buffer, so that power-of-two row lengths don't evict each other from the
first-level cache (measured: eight times the speed of one strided assignment; benchmarks/README.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from convkit.plan.pieces import Piece

if TYPE_CHECKING:
    import numpy as np

#: bytes gathered at once: larger ones leave the caches (measured on 2 MiB of L2 and 32 MiB of L3)
SLAB = 2 << 20
#: rows and columns of a tile: two tiles of 4-byte elements stay within a second-level cache
TILE = 256
#: elements that keep a tile's rows from lying a power of two apart
PADDING = 8


@dataclass(frozen=True, slots=True)
class Box:
    """A strided copy: ``shape`` elements; offsets and strides in elements; target strides descend."""

    shape: tuple[int, ...]
    source_offset: int
    source_strides: tuple[int, ...]
    target_offset: int
    target_strides: tuple[int, ...]

    @property
    def source_span(self) -> tuple[int, int]:
        """First source element, and the one after the last."""
        last = sum((n - 1) * stride for n, stride in zip(self.shape, self.source_strides, strict=True))
        return self.source_offset, self.source_offset + last + 1

    @property
    def contiguous(self) -> bool:
        """Whether it is one run of elements on both sides."""
        return self.shape == () or (len(self.shape) == 1 and self.source_strides == self.target_strides == (1,))


def clip(piece: Piece | Box, start: int, stop: int) -> Iterator[Box]:
    """The part of a piece whose target elements lie in ``[start, stop)``, as boxes.

    Axes of a target nest (the stride of each is at least the span of those after it), so at most
    two indices per axis are cut, and the rest is one box.
    """
    shape, strides = piece.shape, piece.target_strides
    offset = piece.target_offset
    span = 1 + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
    if offset >= stop or offset + span <= start:
        return
    if start <= offset and offset + span <= stop:
        yield _coalesced(shape, piece.source_offset, piece.source_strides, offset, strides)
        return
    inner = span - (shape[0] - 1) * strides[0]
    first = max(0, -((offset - start) // strides[0]))
    last = min(shape[0], (stop - inner - offset) // strides[0] + 1)
    if first < last:
        yield _coalesced(
            (last - first, *shape[1:]),
            piece.source_offset + first * piece.source_strides[0],
            piece.source_strides,
            offset + first * strides[0],
            strides,
        )
    for index in {first - 1, last}:
        if 0 <= index < shape[0] and len(shape) > 1 and not first <= index < last:
            cut = Box(
                shape[1:],
                piece.source_offset + index * piece.source_strides[0],
                piece.source_strides[1:],
                offset + index * strides[0],
                strides[1:],
            )
            yield from clip(cut, start, stop)


def _coalesced(
    shape: tuple[int, ...], source: int, source_strides: tuple[int, ...], target: int, target_strides: tuple[int, ...]
) -> Box:
    """Merge contiguous axes, so that the copy has as few as possible."""
    axes = [axis for axis in zip(shape, source_strides, target_strides, strict=True) if axis[0] != 1]
    merged: list[tuple[int, int, int]] = []
    for n, s, t in axes:
        if merged and merged[-1][1] == n * s and merged[-1][2] == n * t:
            merged[-1] = (merged[-1][0] * n, s, t)
        else:
            merged.append((n, s, t))
    return Box(
        tuple(n for n, _, _ in merged),
        source,
        tuple(s for _, s, _ in merged),
        target,
        tuple(t for _, _, t in merged),
    )


def copy_box(box: Box, source: np.ndarray, source_start: int, target: np.ndarray, target_start: int) -> None:
    """Carry out one box. ``source`` and ``target`` are 1-D; ``*_start`` is the element they begin with."""
    import numpy as np

    width = source.itemsize
    view = np.lib.stride_tricks.as_strided
    read = view(source[box.source_offset - source_start :], box.shape, [s * width for s in box.source_strides])
    write = view(target[box.target_offset - target_start :], box.shape, [s * width for s in box.target_strides])
    if len(box.shape) < 2 or min(box.source_strides) == box.source_strides[-1]:
        np.copyto(write, read)
        return
    fast = box.source_strides.index(min(box.source_strides))
    _copy_tiles(np.moveaxis(read, fast, -2), np.moveaxis(write, fast, -2))


def _copy_tiles(read: np.ndarray, write: np.ndarray) -> None:
    """Copy a box whose last axis is the target's fast axis, and whose last but one is the source's."""
    import numpy as np

    rows, columns = read.shape[-2:]
    tile = np.empty((min(TILE, columns), min(TILE, rows) + PADDING), dtype=read.dtype)
    for index in np.ndindex(*read.shape[:-2]):
        here, there = read[index], write[index]
        for column in range(0, columns, TILE):
            for row in range(0, rows, TILE):
                part = here[row : row + TILE, column : column + TILE]
                held = tile[: part.shape[1], : part.shape[0]]
                np.copyto(held, part.T)
                np.copyto(there[row : row + TILE, column : column + TILE], held.T)
