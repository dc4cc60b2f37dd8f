"""Parts of a tensor that a stage needs: a range of an axis, or some of its rows."""

from __future__ import annotations

import math
import mmap
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor


@dataclass(frozen=True)
class Slice:
    """The indices ``[start, stop)`` of an axis: the tensor is narrowed to them."""

    axis: int
    start: int
    stop: int

    @property
    def length(self) -> int:
        """The number of indices."""
        return self.stop - self.start


@dataclass(frozen=True, eq=False)
class Rows:
    """Some indices of an axis (int64, any shape): the tensor has its full shape, and is 0 except in these rows.

    Only these rows cost memory: see :func:`table`.
    """

    axis: int
    index: Tensor

    @property
    def rows(self) -> list[int]:
        """The indices in order, each once."""
        return self.index.unique().tolist()


Window = Slice | Rows


def cut(tensor: Tensor, window: Window) -> Tensor:
    """What a window shows of a tensor; all of it through :class:`Rows`, which have its shape."""
    if isinstance(window, Rows):
        return tensor
    return tensor.narrow(window.axis, window.start, window.length)


def table(window: Rows, shape: Sequence[int]) -> np.ndarray:
    """Float32 zeros ``[rows, ...]`` for a tensor of ``shape``: the window's axis first, the others in order.

    Pages of memory that nothing is written to cost nothing: they are mapped, and not joined to huge ones.
    """
    import numpy as np

    turned = (shape[window.axis], *shape[: window.axis], *shape[window.axis + 1 :])
    mapped = mmap.mmap(-1, max(1, 4 * math.prod(shape)), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(AttributeError, OSError):  # a system without huge pages
        mapped.madvise(mmap.MADV_NOHUGEPAGE)
    return np.ndarray(turned, np.float32, mapped)


def spread(rows: Tensor, window: Rows, into: np.ndarray) -> Tensor:
    """The tensor of a :func:`table`, in whose rows these are written: ``[rows, ...]``, in order."""
    import torch

    whole = torch.from_numpy(into)
    whole[window.rows] = rows
    return whole.movedim(0, window.axis)


def copied(tensor: Tensor, window: Rows) -> Tensor:
    """A copy of a window's rows, in a table of their own."""
    return spread(tensor.movedim(window.axis, 0)[window.rows], window, table(window, tensor.shape))
