"""The places of roles in tensors: a whole one, a part of a fused one, a block of one of several axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from convkit.oracles.tensors import OnDemand
from convkit.oracles.windows import Rows, Slice, Window

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Part:
    """The place of a role: a tensor, or a part of a fused one.

    A fused tensor has ``groups`` equal groups of rows; each group holds the parts one after another, their numbers of
    rows in the proportion of ``sizes``. Three parts of the whole: ``sizes=(1, 1, 1)``; fused by head: as many
    ``groups`` as heads; grouped keys, fused by key head: ``sizes=(queries per key, 1, 1)``.
    """

    key: str
    #: the layout stores ``[in, out]``
    transposed: bool = False
    #: which of the parts
    index: int = 0
    sizes: tuple[int, ...] = (1,)
    groups: int = 1

    def view(self, whole: Tensor) -> Tensor:
        """The part of the fused tensor, ``[groups, rows, in]`` (or ``[groups, rows]``): writing to it changes that."""
        whole = whole.movedim(-1, 0) if self.transposed else whole
        grouped = whole.unflatten(0, (self.groups, -1))
        unit = grouped.shape[1] // sum(self.sizes)
        return grouped.narrow(1, unit * sum(self.sizes[: self.index]), unit * self.sizes[self.index])

    def of(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """The part as ``[out, in]`` (or ``[out]``)."""
        return self.view(tensors[self.key]).flatten(0, 1)

    def rows_axis(self, ndim: int) -> int:
        """The axis of a tensor of ``ndim`` axes on which the rows of the part lie."""
        return ndim - 1 if self.transposed else 0

    def within(self, window: Slice) -> Part | None:
        """The part in a tensor that is narrowed; None where nothing of it is seen."""
        return self

    def shape_of(self, whole: Sequence[int]) -> tuple[int, ...]:
        """The shape of the part as :meth:`of` gives it, from that of the whole."""
        import torch

        return tuple(self.of({self.key: torch.empty(tuple(whole), device="meta")}).shape)

    @property
    def is_whole(self) -> bool:
        """Whether the part is the tensor, as it is or transposed."""
        return type(self) is Part and self.sizes == (1,) and self.groups == 1

    def stored(self, value: Tensor, window: Window | None = None) -> Tensor:
        """The tensor whose only part has this value; of a window, what it shows. ``value`` may be all of the part."""
        shows = isinstance(window, Slice) and window.axis == self.rows_axis(value.ndim)
        if isinstance(window, Slice) and shows and len(value) > window.length:
            value = value[window.start : window.stop]
        return value.movedim(0, -1).contiguous() if self.transposed else value

    def put(self, whole: Tensor, value: Tensor, window: Window | None = None) -> None:
        """Write the part, ``[out, in]`` (or ``[out]``), to its place in the fused tensor.

        Through a window, what it shows is written; ``value`` may be all of the part.
        """
        rows = window is not None and window.axis == self.rows_axis(whole.ndim)
        if isinstance(window, Rows) and rows and value.numel() == whole.numel():
            self.of({self.key: whole})[window.rows] = value[window.rows]
            return
        seen = self.within(window) if isinstance(window, Slice) else self
        if isinstance(window, Slice) and rows and len(value) > window.length:
            value = value[window.start : window.stop]
        if seen is not None:
            place = seen.view(whole)
            place.copy_(value.reshape(place.shape))


@dataclass(frozen=True)
class Cut(Part):
    """A part of a tensor of several axes: ``at`` fixes axes, ``ins`` are those of the rest that are contracted."""

    at: tuple[int | None, ...] = ()
    ins: tuple[int, ...] = ()

    def view(self, whole: Tensor) -> Tensor:
        """See :meth:`Part.view`: ``[out, in]``, or ``[out]`` if nothing is contracted."""
        for axis in reversed(range(len(self.at))):
            index = self.at[axis]
            whole = whole if index is None else whole.select(axis, index)
        outs = [axis for axis in range(whole.ndim) if axis not in self.ins]
        turned = whole.permute(*outs, *self.ins)
        rows = turned.flatten(0, len(outs) - 1) if outs else turned
        return rows.flatten(1) if self.ins else rows

    def rows_axis(self, ndim: int) -> int:
        """See :meth:`Part.rows_axis`: the first that is neither fixed nor contracted."""
        free = [axis for axis in range(ndim) if axis >= len(self.at) or self.at[axis] is None]
        return next(axis for place, axis in enumerate(free) if place not in self.ins)

    def of(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """See :meth:`Part.of`. Of tensors that are stacked on the first axis, the one is read."""
        if isinstance(tensors, OnDemand) and self.at and (first := self.at[0]) is not None:
            whole = tensors.part(self.key, Slice(0, first, first + 1))
            return replace(self, at=(0, *self.at[1:])).view(whole)
        return self.view(tensors[self.key])

    def within(self, window: Slice) -> Cut | None:
        """See :meth:`Part.within`."""
        at = [*self.at, *[None] * (window.axis + 1 - len(self.at))]
        if (index := at[window.axis]) is not None:
            at[window.axis] = index - window.start
            if not window.start <= index < window.stop:
                return None
        return replace(self, at=tuple(at))


@dataclass(frozen=True)
class Lines(Part):
    """The rows from ``start`` to ``stop`` of a table ``[..., rows, width]`` whose other axes have one entry."""

    start: int = 0
    stop: int = 1

    def view(self, whole: Tensor) -> Tensor:
        """See :meth:`Part.view`: ``[rows, width]``."""
        return whole.view(-1, whole.shape[-1])[self.start : self.stop]

    def rows_axis(self, ndim: int) -> int:
        """See :meth:`Part.rows_axis`."""
        return max(ndim - 2, 0)

    def of(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """See :meth:`Part.of`."""
        return self.view(tensors[self.key])


@dataclass(frozen=True)
class ChannelsLast(Part):
    """A projection of patches ``[out, height * width * channels]``, seen with the channels first."""

    #: height, width and channels
    pixels: tuple[int, int, int] = (1, 1, 1)

    def view(self, whole: Tensor) -> Tensor:
        """See :meth:`Part.view`: ``[1, out, channels, height, width]``."""
        return whole.unflatten(1, self.pixels).permute(0, 3, 1, 2)[None]

    def of(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """See :meth:`Part.of`."""
        return self.view(tensors[self.key])[0].flatten(1)

    def shape_of(self, whole: Sequence[int]) -> tuple[int, ...]:
        """See :meth:`Part.shape_of`: that of the tensor."""
        return tuple(whole)
