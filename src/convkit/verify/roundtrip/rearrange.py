"""Source leaves made again from target leaves, by the notation of :mod:`.notation`.

A leaf is made again in *runs*: consecutive elements in C order, some atoms at one index, one in a range,
the others whole. No more than a run is held in memory; of a leaf that must be decoded also the rows that
a run needs, or all of it where runs need it crosswise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from convkit.checkpoint import Tensors, TensorSpec
from convkit.checkpoint.tensors import carrier
from convkit.verify.blocks import BLOCK, spans
from convkit.verify.roundtrip.notation import (
    Factors,
    Piece,
    Sizes,
    Sum,
    multiplied,
    ordered,
    pieces,
    read_axes,
    shape_of,
    size_of,
    undoable,
)

#: one index of an atom, or a range of them
Where = Mapping[str, "int | slice"]

#: elements of the last axis that a transposition turns at once, through rows kept from lying a power of two apart
TILE = 256
PADDING = 16
#: the atom of what a conversion cut off
CROPPED = "cropped"


# --- the side that is read -------------------------------------------------------------------------------------


class Stored:
    """A leaf that is read, in its pieces. For one thread.

    ``keep`` is (dimension, length): what lies beyond was filled in. ``slow`` are the atoms that are gone
    through once, so that rows by them are read once.
    """

    def __init__(
        self,
        tensors: Tensors,
        key: str,
        axes: Factors,
        sizes: Sizes,
        *,
        at: Mapping[str, int],
        slow: set[str],
        keep: tuple[int, int] | None = None,
    ) -> None:
        self.at = at
        self._tensors = tensors
        self._key = key
        self._axes = axes
        self._sizes = sizes
        self._keep = keep
        self._shape = tensors.spec(key).shape
        kept = list(self._shape)
        if keep:
            kept[keep[0]] = keep[1]
        if tuple(kept) != shape_of(axes, sizes):
            raise undoable(f"{key}: its axes and sizes don't give the shape {kept}")
        self._view = tensors.view(key)
        #: the slowest atom, where rows are to be read by it
        self._leading = next(iter(slow & _leading(axes)), None) if self._view is None else None
        self._held: tuple[int, int, dict[frozenset[str], Piece]] | None = None

    def piece(self, atoms: Iterable[str], where: Where, order: Sequence[str]) -> np.ndarray:
        """What lies ``where`` in the piece of these atoms, the axes in that order."""
        low, held = self._rows(where)
        names, array = held[frozenset(atoms)]
        spots = [_moved(where.get(name, slice(None)), low if name == self._leading else 0) for name in names]
        left = tuple(name for name, spot in zip(names, spots, strict=True) if isinstance(spot, slice))
        return ordered((left, array[(*spots, ...)]), order)

    def _rows(self, where: Where) -> tuple[int, dict[frozenset[str], Piece]]:
        """What is held, and where the leading atom begins there; what isn't held yet is read."""
        low, high, sizes = 0, 0, dict(self._sizes)
        if self._leading:
            low, high = span(where.get(self._leading, slice(None)), sizes[self._leading])
            sizes[self._leading] = high - low
        if self._held is None or not self._held[0] <= low <= high <= self._held[1]:
            self._held = None  # before more is read
            found = pieces(self._array(low, sizes), self._axes, sizes)
            self._held = low, high, {frozenset(names): (names, array) for names, array in found}
        return self._held[0], self._held[2]

    def _array(self, low: int, sizes: Sizes) -> np.ndarray:
        """The leaf without what was filled in, or its rows by the leading atom from ``low`` on."""
        array = self._view
        if array is None and self._leading:
            whole, wanted = (shape_of(self._axes, known)[0] for known in (self._sizes, sizes))
            start = low * (whole // max(1, self._sizes[self._leading]))
            row = math.prod(self._shape[1:])
            array = self._tensors.read(self._key, start * row, (start + wanted) * row)
            array = array.reshape(wanted, *self._shape[1:])
        elif array is None:
            array = self._tensors.read(self._key).reshape(self._shape)
        if self._keep:
            axis, length = self._keep
            array = array[(slice(None),) * (axis % array.ndim) + (slice(length),)]
        return array


def _leading(axes: Factors) -> set[str]:
    """The slowest atom of the first dimension, where all of the dimension lies within it."""
    first = axes[0] if axes else None
    while isinstance(first, Sum):
        first = first.parts[0][0] if len(first.parts) == 1 and first.parts[0] else None
    return {first} if first else set()


def span(where: int | slice, length: int) -> tuple[int, int]:
    """The first index, and the one after the last."""
    if isinstance(where, int):
        return where, where + 1
    start, stop, _ = where.indices(length)
    return start, stop


def _moved(where: int | slice, by: int) -> int | slice:
    if isinstance(where, int):
        return where - by
    return slice(where.start - by, where.stop - by) if by else where


# --- the side that is made again -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Run:
    """Consecutive elements of a leaf: those of ``axes``, with other atoms at one index."""

    axes: Factors
    sizes: Sizes
    where: dict[str, int | slice] = field(default_factory=dict)


def runs(axes: Factors, sizes: Sizes, limit: int, where: Where | None = None) -> Iterator[Run]:
    """A leaf in runs of at most ``limit`` elements, in C order."""
    where = dict(where or {})
    if not axes or size_of(axes, sizes) <= limit:
        yield Run(axes, sizes, where)
        return
    first, rest = axes[0], axes[1:]
    if isinstance(first, Sum):
        for part in first.parts:
            yield from runs(part + rest, sizes, limit, where)
    elif step := limit // size_of(rest, sizes):
        for start, stop in spans(sizes[first], step):
            yield Run(axes, {**sizes, first: stop - start}, {**where, first: slice(start, stop)})
    else:
        for index in range(sizes[first]):
            yield from runs(rest, sizes, limit, {**where, first: index})


class Undone:
    """A source leaf of a step, made again from the step's targets. For one thread.

    ``restored`` gives elements of a target (1-D, its carrier) as the source had them. Where the conversion
    cut something off stands what ``kept`` holds of it, or else ``fill`` (in the source's carrier).
    """

    def __init__(
        self,
        step: Mapping[str, Any],
        key: str,
        spec: TensorSpec,
        target: Tensors,
        restored: Callable[[np.ndarray], np.ndarray],
        *,
        fill: Any = 0,
        kept: Tensors | None = None,
    ) -> None:
        side = next(side for side in step["sources"] if side["key"] == key)
        self._at: dict[str, int] = side["at"]
        self._sizes = dict(step["sizes"])
        self._axes = read_axes(side["axes"])
        self._dtype = carrier(spec.dtype)
        self._restored = restored
        self._fill = fill
        self._beyond: Stored | None = None
        if crop := step.get("crop"):
            place = crop["axis"] % len(self._axes)
            self._sizes[CROPPED] = spec.shape[place] - crop["keep"]
            before, cut, after = self._axes[:place], self._axes[place], self._axes[place + 1 :]
            self._axes = (*before, Sum(((cut,), (CROPPED,))), *after)
            if kept and crop.get("kept_as") in kept.leaves:
                axes = (*before, CROPPED, *after)
                self._beyond = Stored(kept, crop["kept_as"], axes, self._sizes, at={}, slow=_leading(axes))
        if shape_of(self._axes, self._sizes) != spec.shape:
            raise undoable(f"{key}: its axes and sizes don't give the shape {list(spec.shape)}")
        keep = (step["pad"]["axis"], step["pad"]["keep"]) if "pad" in step else None
        self._stored: dict[frozenset[str], list[Stored]] = {}
        for there in step["targets"]:
            at, axes = there["at"], read_axes(there["axes"])
            slow = {next((atom for atom in atoms if atom not in at), "") for atoms in multiplied(self._axes)}
            stored = Stored(target, there["key"], axes, step["sizes"], at=at, slow=slow | self._at.keys(), keep=keep)
            for atoms in multiplied(axes):
                self._stored.setdefault(frozenset([*atoms, *at]), []).append(stored)

    def blocks(self, limit: int | None = None) -> Iterator[np.ndarray]:
        """All of the leaf in C order: 1-D arrays in its carrier, read-only or to be thrown away.

        ``limit`` is the most elements in one; :data:`BLOCK` bytes unless it is given.
        """
        for run in runs(self._axes, self._sizes, limit or BLOCK // self._dtype.itemsize):
            yield self._made(run)

    def _made(self, run: Run) -> np.ndarray:
        names = list(multiplied(run.axes))
        if len(names) == 1 and CROPPED not in names[0]:
            found = list(self._parts(names[0], run))
            if len(found) == 1:
                return self._restored(_contiguous(found[0][1]))
        block = np.empty(shape_of(run.axes, run.sizes), self._dtype)
        for atoms, place in pieces(block, run.axes, run.sizes):
            if CROPPED not in atoms:
                for spot, part in self._parts(atoms, run):
                    place[(*spot, ...)] = self._restored(_contiguous(part)).reshape(part.shape)
            elif self._beyond:
                place[...] = self._beyond.piece({*atoms, *run.where}, run.where, atoms)
            else:
                place[...] = self._fill
        return block.reshape(-1)

    def _parts(self, atoms: Sequence[str], run: Run) -> Iterator[tuple[tuple[int | slice, ...], np.ndarray]]:
        """What the targets hold of a piece of a run: the place in the piece, and the elements."""
        where: dict[str, int | slice] = {**self._at, **run.where}
        whole = frozenset([*atoms, *where])
        for stored in self._stored[whole]:
            spans = {name: span(where.get(name, slice(None)), self._sizes[name]) for name in stored.at}
            if all(low <= stored.at[name] < high for name, (low, high) in spans.items()):
                spot = tuple(stored.at[name] - spans[name][0] if name in spans else slice(None) for name in atoms)
                yield spot, stored.piece(whole - spans.keys(), where, [name for name in atoms if name not in spans])


def _contiguous(array: np.ndarray) -> np.ndarray:
    """An array's elements in C order, 1-D; of a transposed one tile by tile, several times faster."""
    if array.flags.c_contiguous:
        return array.reshape(-1)
    out = np.empty(array.shape, array.dtype)
    order = sorted(range(array.ndim), key=lambda n: -array.strides[n] if array.shape[n] > 1 else -math.inf)
    if order[-1] == array.ndim - 1 or array.shape[-1] <= TILE or array.shape[order[-1]] < PADDING:
        out[...] = array
        return out.reshape(-1)
    back = [order.index(n) for n in range(array.ndim)]
    for start in range(0, array.shape[-1], TILE):
        tile = array[..., start : start + TILE].transpose(order)
        rows = np.empty((*tile.shape[:-1], tile.shape[-1] + PADDING), tile.dtype)[..., : tile.shape[-1]]
        rows[...] = tile
        out[..., start : start + TILE] = rows.transpose(back)
    return out.reshape(-1)
