"""Copy between arrays whose elements follow each other along different axes: a transposition, tile by tile.

The kernel that turns a tile is OpenCV's where that package is installed (the extra ``fast``), else numpy's, by way of a
small buffer whose rows are padded, so that power-of-two row lengths don't evict each other from the first-level cache
(measured: eight times the speed of one strided assignment; benchmarks/README.md). Both give the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

#: rows and columns of a tile: two tiles of 4-byte elements stay within a second-level cache
TILE = 256
#: elements that keep a tile's rows from lying a power of two apart
PADDING = 8

#: bytes from which on a copy is worth the import of OpenCV
WORTH = 1 << 20
#: bytes per element -> the dtype as which OpenCV turns them; of other widths numpy is as fast
_TURNED_AS = {2: "uint16", 4: "int32"}


def copy_across(read: np.ndarray, write: np.ndarray) -> None:
    """Copy an array whose last axis is the target's fast axis, and whose last but one is the source's."""
    import numpy as np

    rows, columns = read.shape[-2:]
    dense = read.strides[-2] == write.strides[-1] == read.itemsize
    turn = _opencv() if dense and read.itemsize in _TURNED_AS and read.nbytes >= WORTH else None
    tile = np.empty((min(TILE, columns), min(TILE, rows) + PADDING), dtype=read.dtype)
    for index in np.ndindex(*read.shape[:-2]):
        here, there = read[index], write[index]
        for column in range(0, columns, TILE):
            for row in range(0, rows, TILE):
                part, into = (array[row : row + TILE, column : column + TILE] for array in (here, there))
                if turn:
                    turn(part.T, into)
                    continue
                held = tile[: part.shape[1], : part.shape[0]]
                np.copyto(held, part.T)
                np.copyto(into, held.T)


@lru_cache(maxsize=1)
def _opencv() -> Callable[[np.ndarray, np.ndarray], object] | None:
    """OpenCV's transposition of a matrix into another of the same dtype, of 2 or 4 bytes; None if it isn't there."""
    try:
        import cv2
    except ImportError:  # also of one whose own libraries are missing
        return None

    def turn(matrix: np.ndarray, into: np.ndarray) -> object:
        dtype = _TURNED_AS[matrix.itemsize]
        return cv2.transpose(matrix.view(dtype), into.view(dtype))

    return turn
