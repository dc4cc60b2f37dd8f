"""Transpose large matrices through a scratch file: each byte is read once, and little is in memory at a time.

A slab of a transposed matrix needs a few elements of each of very many rows, and to fetch those by themselves costs a
call of the system each. So the matrix is read in order, some rows at a time, and these are transposed into a scratch
file that is mapped into memory, each element to where the target has it. A slab is then a stretch of the file as it is.
What the system keeps of the file it keeps as a cache of a file, which is not the memory of this process.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from msgspec import Struct

from convkit.checkpoint import Tensors
from convkit.checkpoint.tensors import carrier
from convkit.execute.origins import Passing
from convkit.execute.slabs import Box, coalesced
from convkit.execute.tiles import copy_across

if TYPE_CHECKING:
    import numpy as np

#: bytes from which on a matrix is worth a file
LEAST = 1 << 20
#: matrices of a stack, at most
STACK = 256
#: bytes of source rows that are read at once, and how many rows at least: they are elements that lie together then
_READ, _ROWS = 4 << 20, 32
#: the share of what is read that may be of no use, so that it is read at once
CLOSE = 1.25


class Part(Struct, frozen=True):
    """Elements of a source, and where each goes: the source offset and strides of ``box`` are those in ``data``."""

    data: np.ndarray
    box: Box


class Matrix(Struct, frozen=True):
    """``rows`` of ``columns`` elements of a source, which are columns of the target; all in elements.

    Attributes:
        box: the same as a copy: its first axis runs along a source row, its second from row to row.
        at: of its first element in the scratch file.
    """

    box: Box
    at: int

    @property
    def columns(self) -> int:
        """Elements of a source row."""
        return self.box.shape[0]

    @property
    def rows(self) -> int:
        """Source rows."""
        return self.box.shape[1]

    @property
    def row(self) -> int:
        """From a source row to the next."""
        return self.box.source_strides[1]


def matrices(box: Box, itemsize: int) -> list[Matrix]:
    """The matrices that a box transposes; none if it isn't a stack of few large ones."""
    *stack, columns, rows = box.shape if len(box.shape) > 1 else (0, 0)
    worth = columns * rows * itemsize >= LEAST and min(columns, rows) >= _ROWS and math.prod(stack) <= STACK
    if not worth or box.source_strides[-2] != 1 or box.target_strides[-1] != 1:
        return []
    found = []
    for number in range(math.prod(stack)):
        source, target, rest = box.source_offset, box.target_offset, number
        for axis in reversed(range(len(stack))):
            rest, index = divmod(rest, stack[axis])
            source += index * box.source_strides[axis]
            target += index * box.target_strides[axis]
        one = Box((columns, rows), source, box.source_strides[-2:], target, box.target_strides[-2:])
        found.append(Matrix(one, number * columns * rows))
    return found


def turned(
    tensors: Tensors, key: str, found: list[Matrix], room: np.ndarray, whole: Passing | None = None
) -> Iterator[Part]:
    """Transpose matrices of one source, and yield each as it lies in ``room`` then.

    Args:
        tensors: what holds the source.
        key: its key.
        found: the matrices.
        room: bytes for them.
        whole: is fed with the elements if they are all of the source, in order.

    Raises:
        ConvkitError: the source can't be read.
    """
    spec, end = tensors.spec(key), 0
    in_order = sorted(found, key=lambda matrix: matrix.box.source_offset)
    for matrix in in_order:
        if (matrix.row, matrix.box.source_offset) != (matrix.columns, end):
            whole = None
        end = matrix.box.source_span[1]
    whole = whole if end == spec.size else None
    elements = room.view(carrier(spec.dtype))
    for matrix in in_order:
        into = elements[matrix.at :][: matrix.columns * matrix.rows]
        _turn(tensors, key, matrix, into.reshape(matrix.columns, matrix.rows), whole)
        box = matrix.box
        yield Part(into, coalesced(box.shape, 0, (matrix.rows, 1), box.target_offset, box.target_strides))
    if whole:
        whole.finish()


def _turn(tensors: Tensors, key: str, matrix: Matrix, into: np.ndarray, whole: Passing | None) -> None:
    """Fill the transposed matrix, some source rows at a time."""
    step = max(_ROWS, _READ // (matrix.columns * into.itemsize) // _ROWS * _ROWS)
    for low in range(0, matrix.rows, step):
        rows = _rows(tensors, key, matrix, low, min(step, matrix.rows - low))
        if whole:
            whole.update(rows)
        copy_across(rows.T, into[:, low : low + step])


def _rows(tensors: Tensors, key: str, matrix: Matrix, low: int, count: int) -> np.ndarray:
    """Source rows: 2-D."""
    first = matrix.box.source_offset + low * matrix.row
    if matrix.row == matrix.columns:
        return tensors.read(key, first, first + count * matrix.row).reshape(count, matrix.row)
    if matrix.row <= CLOSE * matrix.columns:
        data = tensors.read(key, first, first + (count - 1) * matrix.row + matrix.columns)
        import numpy as np

        strides = (matrix.row * data.itemsize, data.itemsize)
        return np.lib.stride_tricks.as_strided(data, (count, matrix.columns), strides, writeable=False)
    return tensors.rows(key, [first + n * matrix.row for n in range(count)], matrix.columns)
