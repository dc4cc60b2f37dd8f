"""Copy arrays whose elements follow each other along another axis than those of the copy, tile by tile.

It is several times as fast as one assignment. The engine has a loop and a kernel of its own, which aren't used here: if
both sides of a check turned matrices wrongly in the same way, the check wouldn't notice.
"""

from __future__ import annotations

import math

import numpy as np

#: elements of a tile along either axis
TILE = 256
#: elements that keep a tile's rows from lying a power of two apart
PADDING = 16


def contiguous(array: np.ndarray) -> np.ndarray:
    """An array's elements in C order, 1-D."""
    if array.flags.c_contiguous:
        return array.reshape(-1)
    out = np.empty(array.shape, array.dtype)
    turn(array, out)
    return out.reshape(-1)


def turn(read: np.ndarray, write: np.ndarray) -> None:
    """Copy an array into another of the same shape."""
    along, across = _fast(read), _fast(write)
    shape = read.shape
    if along == across or min(shape[along], shape[across]) <= PADDING:
        write[...] = read
        return
    order = [*(axis for axis in range(read.ndim) if axis not in (across, along)), across, along]
    back = [order.index(axis) for axis in range(read.ndim)]
    others = [shape[axis] for axis in order[:-2]]
    held = np.empty((*others, min(TILE, shape[across]), min(TILE, shape[along]) + PADDING), read.dtype)
    spot = [slice(None)] * read.ndim
    for row in range(0, shape[along], TILE):
        spot[along] = slice(row, row + TILE)
        for column in range(0, shape[across], TILE):
            spot[across] = slice(column, column + TILE)
            part = read[tuple(spot)].transpose(order)
            tile = held[..., : part.shape[-2], : part.shape[-1]]
            tile[...] = part
            write[tuple(spot)] = tile.transpose(back)


def _fast(array: np.ndarray) -> int:
    """The axis along which neighbours lie closest."""
    return min(range(array.ndim), key=lambda axis: array.strides[axis] if array.shape[axis] > 1 else math.inf)
