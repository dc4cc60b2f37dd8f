"""Splits ranges of elements in C order into boxes of an array."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

Box = tuple[slice, ...]


def boxes(shape: Sequence[int], start: int, stop: int) -> Iterator[Box]:
    """The boxes that make up the elements ``[start, stop)`` of an array, in order and without overlap.

    >>> [tuple((s.start, s.stop) for s in box) for box in boxes((4, 3), 2, 10)]
    [((0, 1), (2, 3)), ((1, 3), (0, 3)), ((3, 4), (0, 1))]
    """
    if start >= stop:
        return
    if not shape:
        yield ()
        return
    inner = math.prod(shape[1:])
    first, last = -(-start // inner), stop // inner
    if first > last:  # within one row
        yield from _within(shape, last, start, stop)
        return
    if start < first * inner:
        yield from _within(shape, first - 1, start, first * inner)
    if first < last:
        yield (slice(first, last), *(slice(0, n) for n in shape[1:]))
    if last * inner < stop:
        yield from _within(shape, last, last * inner, stop)


def _within(shape: Sequence[int], row: int, start: int, stop: int) -> Iterator[Box]:
    """The boxes of a range that lies within one row."""
    offset = row * math.prod(shape[1:])
    for box in boxes(shape[1:], start - offset, stop - offset):
        yield (slice(row, row + 1), *box)


def box_size(box: Box) -> int:
    """Number of elements in a box."""
    return math.prod(side.stop - side.start for side in box)


def block(shape: Sequence[int], chunks: Sequence[int]) -> int:
    """The smallest number of elements such that ranges between its multiples are whole chunks.

    Chunks along the first axis are ranges of rows; chunks along another axis are spread over the array, so only the
    whole array is made of whole chunks.

    >>> block((10, 4), (3, 4)), block((10, 4), (3, 2)), block((10, 4), (10, 2)), block((10, 4), (1, 2))
    (12, 12, 40, 2)
    """
    rows = 1
    for axis, (length, chunk) in enumerate(zip(shape, chunks, strict=True)):
        if chunk > 1:
            even = rows == 1 or length % chunk == 0
            return max(1, (min(chunk, length) if even else length) * math.prod(shape[axis + 1 :]))
        rows *= length
    return 1


def chunk_shape(shape: tuple[int, ...], itemsize: int, limit: int) -> tuple[int, ...]:
    """Chunks that are ranges in C order: the whole array where it fits, else as many whole rows as do, evenly.

    Args:
        limit: bytes a chunk at most.

    >>> chunk_shape((32128, 1024), 4, 16 << 20), chunk_shape((2, 10, 4), 4, 100)
    ((4016, 1024), (1, 5, 4))
    """
    for axis, length in enumerate(shape):
        row = max(1, math.prod(shape[axis + 1 :]) * itemsize)
        most = min(length, limit // row)
        if limit < row:
            continue
        if axis == 0:
            rows = math.ceil(length / max(1, math.ceil(length / max(1, most))))
        else:
            rows = next((rows for rows in range(most, 0, -1) if length % rows == 0), 1)
        return (*(1,) * axis, max(1, rows), *(max(1, n) for n in shape[axis + 1 :]))
    return (1, *(max(1, n) for n in shape[1:])) if shape else ()
