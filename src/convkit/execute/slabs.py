"""Move elements: cut strided pieces to a run of target elements, and copy them fast.

A *slab* is a run of consecutive elements of one target leaf, a few MiB at most: the unit of work.
A piece that lies across its border is cut into boxes (:func:`clip`); each box is a strided copy
(:func:`copy_box`). Where source and target run along different axes, the copy goes tile by tile
(:mod:`convkit.execute.tiles`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from msgspec import Struct

from convkit.execute.tiles import copy_across
from convkit.plan.pieces import Piece

if TYPE_CHECKING:
    import numpy as np

#: bytes gathered at once: larger ones leave the caches (measured on 2 MiB of L2 and 32 MiB of L3)
SLAB = 2 << 20


class Box(Struct, frozen=True):
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


def target_span(piece: Piece | Box) -> tuple[int, int]:
    """First target element, and the one after the last."""
    last = sum((n - 1) * stride for n, stride in zip(piece.shape, piece.target_strides, strict=True))
    return piece.target_offset, piece.target_offset + last + 1


def clip(piece: Piece | Box, start: int, stop: int) -> Iterator[Box]:
    """The part of a piece whose target elements lie in ``[start, stop)``, as boxes.

    Axes of a target nest (the stride of each is at least the span of those after it), so at most
    two indices per axis are cut, and the rest is one box.
    """
    shape, strides = piece.shape, piece.target_strides
    offset, end = target_span(piece)
    if offset >= stop or end <= start:
        return
    if start <= offset and end <= stop:
        yield coalesced(shape, piece.source_offset, piece.source_strides, offset, strides)
        return
    inner = end - offset - (shape[0] - 1) * strides[0]
    first = max(0, -((offset - start) // strides[0]))
    last = min(shape[0], (stop - inner - offset) // strides[0] + 1)
    if first < last:
        yield coalesced(
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


def coalesced(
    shape: tuple[int, ...], source: int, source_strides: tuple[int, ...], target: int, target_strides: tuple[int, ...]
) -> Box:
    """A box whose contiguous axes are merged, so that the copy has as few as possible."""
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
    copy_across(np.moveaxis(read, fast, -2), np.moveaxis(write, fast, -2))
