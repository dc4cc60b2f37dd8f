"""Transpose large matrices through a scratch file: each byte is read once, and little is in memory at a time.

A slab of a transposed matrix needs a few elements of each of very many rows, and to fetch those by themselves costs a
call of the system each. So the matrix goes through a file twice. On the way there it is read in order, some rows at a
time; these are transposed, and written as a *block*. On the way back a slab takes a stretch of every block: one call
brings hundreds of its elements for each of its rows. What the system keeps of the file it keeps as a cache of a file,
which is not the memory of this process.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from convkit.checkpoint import Tensors
from convkit.checkpoint.tensors import carrier
from convkit.execute.origins import Passing
from convkit.execute.slabs import SLAB, Box, clip
from convkit.execute.tiles import TILE, copy_across
from convkit.files.scratch import ScratchFile

if TYPE_CHECKING:
    import numpy as np

#: bytes from which on a matrix is worth a file
LEAST = 1 << 20
#: matrices of a stack, at most
STACK = 256
#: bytes of source rows that are read at once, and rows of a block: at least, so that what lies together in it isn't
#: short
_READ, _ROWS = 4 << 20, 32
#: the share of what is read that may be of no use, so that it is read at once
CLOSE = 1.25


@dataclass(frozen=True, slots=True)
class Part:
    """Elements of a source, and where each goes: the source offset and strides of ``box`` are those in ``data``."""

    data: np.ndarray
    box: Box


@dataclass(frozen=True, slots=True)
class Matrix:
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

    def block(self, itemsize: int) -> int:
        """Rows of a block, except the last one."""
        fitting = _READ // (self.columns * itemsize) // _ROWS * _ROWS
        return min(self.rows, max(_ROWS, min(TILE, fitting)))


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


class Turned:
    """Transposed matrices of one source, in a scratch file. For one thread.

    Args:
        tensors: what holds the source.
        key: its key.
        found: the matrices.
        file: where there is room for them; they use it until others do.
        whole: is fed with the elements if they are all of the source, in order.

    Raises:
        ConvkitError: the source can't be read.
        OSError: the file can't be written.
    """

    def __init__(
        self, tensors: Tensors, key: str, found: list[Matrix], file: ScratchFile, whole: Passing | None = None
    ) -> None:
        self._tensors = tensors
        self._key = key
        self._matrices = found
        self._file = file
        self._dtype = carrier(tensors.spec(key).dtype)
        end = 0
        in_order = sorted(found, key=lambda matrix: matrix.box.source_offset)
        for matrix in in_order:
            if whole and (matrix.row, matrix.box.source_offset) != (matrix.columns, end):
                whole = None
            end = matrix.box.source_span[1]
        whole = whole if end == tensors.spec(key).size else None
        for matrix in in_order:
            self._bring(matrix, whole)
        if whole:
            whole.finish()

    def within(self, start: int, stop: int) -> Iterator[Part]:
        """What elements ``[start, stop)`` of the target need.

        Raises:
            OSError: the file can't be read.
        """
        for matrix in self._matrices:
            for box in clip(matrix.box, start, stop):
                yield from self._fetched(matrix, box)

    def _bring(self, matrix: Matrix, whole: Passing | None) -> None:
        """Write a matrix into the file, block by block."""
        import numpy as np

        step, columns, width = matrix.block(self._dtype.itemsize), matrix.columns, self._dtype.itemsize
        turned = np.empty(max(step, SLAB // width), self._dtype)
        for low in range(0, matrix.rows, step):
            count = min(step, matrix.rows - low)
            rows = self._rows(matrix, low, count)
            if whole:
                whole.update(rows)
            most = turned.size // count
            for column in range(0, columns, most):
                part = rows[:, column : column + most].T
                into = turned[: part.size].reshape(part.shape)
                copy_across(part, into)
                self._file.write((matrix.at + low * columns + column * count) * width, into)

    def _rows(self, matrix: Matrix, low: int, count: int) -> np.ndarray:
        """Source rows: 2-D."""
        first = matrix.box.source_offset + low * matrix.row
        if matrix.row == matrix.columns:
            return self._tensors.read(self._key, first, first + count * matrix.row).reshape(count, matrix.row)
        if matrix.row <= CLOSE * matrix.columns:
            data = self._tensors.read(self._key, first, first + (count - 1) * matrix.row + matrix.columns)
            import numpy as np

            strides = (matrix.row * data.itemsize, data.itemsize)
            return np.lib.stride_tricks.as_strided(data, (count, matrix.columns), strides, writeable=False)
        return self._tensors.rows(self._key, [first + n * matrix.row for n in range(count)], matrix.columns)

    def _fetched(self, matrix: Matrix, box: Box) -> Iterator[Part]:
        """A box of a matrix: of blocks that are needed whole all at once, of others each by itself."""
        import numpy as np

        step, width = matrix.block(self._dtype.itemsize), self._dtype.itemsize
        row, column = divmod(box.source_offset - matrix.box.source_offset, matrix.row)
        lengths = dict(zip(box.source_strides, box.shape, strict=True))
        columns, end = lengths.get(1, 1), row + lengths.get(matrix.row, 1)
        down = matrix.box.target_strides[0]

        def fill(low: int, count: int, into: np.ndarray) -> None:
            self._file.fill((matrix.at + low * matrix.columns + column * count) * width, into)

        first, last = -(-row // step), end // step
        if first < last:
            data = np.empty((last - first, columns, step), self._dtype)
            for number, part in enumerate(data, first):
                fill(number * step, step, part)
            at = box.target_offset + first * step - row
            strides = (columns * step, step, 1)
            yield Part(data.reshape(-1), Box(data.shape, 0, strides, at, (step, down, 1)))
        for low, high in _left_over(row, end, first * step, last * step):
            start = low // step * step
            count = min(step, matrix.rows - start)
            some = np.empty((columns, count), self._dtype)
            fill(start, count, some)
            at = box.target_offset + low - row
            yield Part(some.reshape(-1), Box((columns, high - low), low - start, (count, 1), at, (down, 1)))


def _left_over(row: int, end: int, first: int, last: int) -> Iterator[tuple[int, int]]:
    """What of the rows ``[row, end)`` lies before and after the whole blocks ``[first, last)``."""
    if first >= last:  # within one block, or two neighbours
        first = last = min(end, first)
    if row < first:
        yield row, first
    if last < end:
        yield last, end
