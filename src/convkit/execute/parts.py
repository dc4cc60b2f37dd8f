"""Read parts of sources that lie open in a file: of a transposed one no more than a window, of bounded size, needs.

A slab of a transposed leaf needs a few elements of each of very many rows. So the elements for many slabs are read
together, a stretch of each row, and held until those slabs are made: in a scratch file if they are matrices
(:mod:`convkit.execute.turned`), else in memory. That costs no more memory the larger the leaf is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from msgspec.structs import replace

from convkit.checkpoint import Tensors
from convkit.checkpoint.tensors import carrier
from convkit.execute.origins import Passing
from convkit.execute.slabs import Box, clip, target_span
from convkit.execute.turned import CLOSE, Part, matrices, turned
from convkit.files.scratch import Lent, Scratch
from convkit.plan.peak import WINDOW
from convkit.plan.pieces import Piece

if TYPE_CHECKING:
    import numpy as np

#: bytes between rows from which on each is read on its own: the system reads whole pages
_PAGE = 4 << 10
#: bytes that are read at once for rows that lie closer
_SPAN = 8 << 20


class Window:
    """The elements that a stretch of a target needs of one piece. For one thread.

    Args:
        until: the target element before which the thread that reads stops.
        whole: what is fed with a source leaf that is read whole, by its key.
        scratch: files for matrices; without them, and where the disk has no room, those are held in memory.
    """

    def __init__(
        self,
        tensors: Tensors,
        piece: Piece,
        until: int,
        whole: Callable[[str], Passing] | None = None,
        scratch: Scratch | None = None,
    ) -> None:
        self._whole = whole
        self._scratch = scratch
        self._lent = Lent(scratch)
        self._tensors = tensors
        self._itemsize = tensors.spec(piece.source).itemsize
        self._piece = piece
        self._until = until
        most = WINDOW // self._itemsize if piece.crosswise else 0
        # whole rows of the target, unless they are long: a cut row would be read element by element
        rows = [stride for stride in piece.target_strides if stride <= most // 16]
        self._most, self._unit = most, max(rows, default=1)
        self._span = (0, 0)
        self._parts: list[Part] = []

    @property
    def tall(self) -> bool:
        """Whether slabs are transposed out of memory, so that low ones would cut tiles."""
        (box,) = clip(self._piece, *target_span(self._piece))
        return self._piece.crosswise and not (self._scratch and matrices(box, self._itemsize))

    def close(self) -> None:
        """Let others use the scratch file."""
        self._parts = []
        self._lent.close()

    def parts(self, start: int, stop: int) -> Iterator[Part]:
        """What elements ``[start, stop)`` of the target need; ranges that follow on each other are read once.

        Raises:
            ConvkitError: the source can't be read.
        """
        if not (self._span[0] <= start and stop <= self._span[1]):
            self._read(start, max(stop, min(start + self._most, self._until)))
        for part in self._parts:
            yield from (replace(part, box=box) for box in clip(part.box, start, stop))

    def _read(self, start: int, stop: int) -> None:
        self._parts = []  # before more is read
        first, unit = self._piece.target_offset, self._unit
        start, stop = first + (start - first) // unit * unit, first - -(stop - first) // unit * unit
        self._span = start, stop
        key, boxes = self._piece.source, list(clip(self._piece, start, stop))
        found = matrices(boxes[0], self._itemsize) if len(boxes) == 1 else []
        nbytes = sum(math.prod(matrix.box.shape) for matrix in found) * self._itemsize
        if found and (room := self._lent.room(nbytes)) is not None:
            self._parts = [*turned(self._tensors, key, found, room, self._whole(key) if self._whole else None)]
            return
        for box in boxes:
            data, strides = read_box(self._tensors, key, box)
            if self._whole and data.size == self._tensors.spec(key).size:
                self._whole(key).take(data)
            self._parts.append(Part(data, Box(box.shape, 0, strides, box.target_offset, box.target_strides)))


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
