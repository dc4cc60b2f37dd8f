"""Read parts of sources that lie open in a file: of a transposed one no more than a window, of bounded size, needs.

A slab of a transposed leaf needs a few elements of each of very many rows. So the elements for many slabs are read
together, a stretch of each row, and held until those slabs are made. That costs no more memory the larger the leaf is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from convkit.checkpoint import Tensors
from convkit.checkpoint.tensors import carrier
from convkit.execute.slabs import Box, clip
from convkit.plan.peak import WINDOW
from convkit.plan.pieces import Piece

if TYPE_CHECKING:
    import numpy as np

#: the share of what is read that may be of no use, so that it is read at once
CLOSE = 1.25
#: bytes between rows from which on each is read on its own: the system reads whole pages
_PAGE = 4 << 10
#: bytes that are read at once for rows that lie closer
_SPAN = 8 << 20


@dataclass(frozen=True, slots=True)
class Part:
    """Elements of a source, and where each goes: the source offset and strides of ``box`` are those in ``data``."""

    data: np.ndarray
    box: Box


class Window:
    """The elements that a stretch of a target needs of one piece. For one thread.

    Args:
        until: the target element before which the thread that reads stops.
        read_whole: called with a source leaf that was read whole, and its elements.
    """

    def __init__(
        self,
        tensors: Tensors,
        piece: Piece,
        until: int,
        read_whole: Callable[[str, np.ndarray], None] | None = None,
    ) -> None:
        self._read_whole = read_whole
        self._tensors = tensors
        self._piece = piece
        self._until = until
        most = WINDOW // tensors.spec(piece.source).itemsize if piece.crosswise else 0
        # whole rows of the target, unless they are long: a cut row would be read element by element
        rows = [stride for stride in piece.target_strides if stride <= most // 16]
        self._most, self._unit = most, max(rows, default=1)
        self._span = (0, 0)
        self._parts: list[Part] = []

    def parts(self, start: int, stop: int) -> Iterator[Part]:
        """What elements ``[start, stop)`` of the target need; ranges that follow on each other are read once.

        Raises:
            ConvkitError: the source can't be read.
        """
        if not (self._span[0] <= start and stop <= self._span[1]):
            self._parts = []  # before more is read
            self._parts = list(self._read(start, max(stop, min(start + self._most, self._until))))
        for part in self._parts:
            yield from (replace(part, box=box) for box in clip(part.box, start, stop))

    def _read(self, start: int, stop: int) -> Iterator[Part]:
        first, unit = self._piece.target_offset, self._unit
        start, stop = first + (start - first) // unit * unit, first - -(stop - first) // unit * unit
        self._span = start, stop
        for box in clip(self._piece, start, stop):
            data, strides = read_box(self._tensors, self._piece.source, box)
            if self._read_whole and data.size == self._tensors.spec(self._piece.source).size:
                self._read_whole(self._piece.source, data)
            yield Part(data, Box(box.shape, 0, strides, box.target_offset, box.target_strides))


def read_box(tensors: Tensors, key: str, box: Box) -> tuple[np.ndarray, tuple[int, ...]]:
    """The elements of a box, 1-D, and their strides for the box's axes.

    Raises:
        ConvkitError: they can't be read.
    """
    import numpy as np

    low, high = box.source_span
    size, width = math.prod(box.shape), tensors.spec(key).itemsize
    if high - low <= CLOSE * size:
        return tensors.read(key, low, high), box.source_strides
    axes = sorted(range(len(box.shape)), key=lambda axis: -box.source_strides[axis])
    shape = [box.shape[axis] for axis in axes]
    strides = [box.source_strides[axis] for axis in axes]
    own = [math.prod(shape[n + 1 :]) for n in range(len(shape))]
    inner = len(axes)
    while inner and strides[inner - 1] == own[inner - 1]:
        inner -= 1
    if strides[inner - 1] * width >= _PAGE:
        starts = np.array([low])
        for length, stride in zip(shape[:inner], strides[:inner], strict=True):
            starts = np.add.outer(starts, np.arange(length) * stride).reshape(-1)
        data = tensors.rows(key, starts.tolist(), own[inner - 1]).reshape(-1)
    else:
        data = np.empty(size, carrier(tensors.spec(key).dtype))
        _fill(tensors, key, low, strides, data.reshape(shape))
    return data, tuple(own[axes.index(axis)] for axis in range(len(axes)))


def _fill(tensors: Tensors, key: str, low: int, strides: Sequence[int], into: np.ndarray) -> None:
    """Fill an array with strided elements from ``low`` on, out of spans that hold other elements between them."""
    import numpy as np

    reach = [(length - 1) * stride for length, stride in zip(into.shape, strides, strict=True)]
    span = sum(reach) + 1
    if span * into.itemsize <= _SPAN:
        data = tensors.read(key, low, low + span)
        found = np.lib.stride_tricks.as_strided(data, into.shape, [stride * into.itemsize for stride in strides])
        np.copyto(into, found)
        return
    axis = reach.index(max(reach))
    half = into.shape[axis] // 2
    first, second = np.split(into, [half], axis)
    _fill(tensors, key, low, strides, first)
    _fill(tensors, key, low + half * strides[axis], strides, second)
