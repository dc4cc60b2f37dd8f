"""Make source leaves again from target leaves, by the notation of :mod:`.notation`.

A leaf is made in *runs* of consecutive elements in C order: some atoms at one index, one in a range, the others whole.
Only one run is held in memory, and the rows that it needs of the leaf that is read. Where runs cut across those rows,
a window of them is held (:mod:`.windows`), or the whole leaf if it must be decoded.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from msgspec import Struct, field

from convkit.checkpoint import Tensors, TensorSpec
from convkit.checkpoint.tensors import carrier
from convkit.files.scratch import Scratch
from convkit.verify.blocks import BLOCK, spans
from convkit.verify.documents import Step
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
from convkit.verify.roundtrip.turning import contiguous
from convkit.verify.roundtrip.windows import Windows

#: one index of an atom, or a range of them
Where = Mapping[str, "int | slice"]

#: the atom of the elements that a conversion cropped
CROPPED = "cropped"


# --- the side that is read -------------------------------------------------------------------------------------


class Stored:
    """A leaf that is read, in its pieces. For one thread.

    ``keep`` is (dimension, length): elements beyond are padding. ``slow`` are atoms whose indices come in order, so
    that rows by them are read once; ``order`` are those that the leaf made again has, and ``scratch`` is for what they
    turn.
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
        order: Sequence[str] = (),
        scratch: Scratch | None = None,
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
        #: the slowest atom, if rows are read by it
        self._leading = next(iter(slow & _leading(axes)), None)
        self._windows: Windows | None = None
        if self._leading is None and tensors.lies_open(key):
            self._windows = Windows(tensors, key, axes, sizes, keep, order=order, scratch=scratch)
        self._held: tuple[int, int, dict[frozenset[str], Piece]] | None = None

    def piece(self, atoms: Iterable[str], where: Where, order: Sequence[str]) -> np.ndarray:
        """The part ``where`` of the piece with these atoms, its axes in this order."""
        if self._windows:
            atoms = frozenset(atoms)
            wanted = {name: span(where.get(name, slice(None)), self._sizes[name]) for name in atoms}
            kept = [name for name in atoms if isinstance(where.get(name, slice(None)), slice)]
            return self._windows.piece(atoms, wanted, kept, order)
        low, held = self._rows(where)
        names, array = held[frozenset(atoms)]
        spots = [_moved(where.get(name, slice(None)), low if name == self._leading else 0) for name in names]
        left = tuple(name for name, spot in zip(names, spots, strict=True) if isinstance(spot, slice))
        return ordered((left, array[(*spots, ...)]), order)

    def close(self) -> None:
        """Let others use the scratch file."""
        if self._windows:
            self._windows.close()

    def _rows(self, where: Where) -> tuple[int, dict[frozenset[str], Piece]]:
        """The index of the leading atom where the held rows begin, and the held pieces; rows not held are read."""
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
        """The leaf without padding, or its rows by the leading atom, from ``low`` on."""
        if self._leading:
            whole, wanted = (shape_of(self._axes, known)[0] for known in (self._sizes, sizes))
            start = low * (whole // max(1, self._sizes[self._leading]))
            row = math.prod(self._shape[1:])
            array = self._tensors.read(self._key, start * row, (start + wanted) * row)
            array = array.reshape(wanted, *self._shape[1:])
        else:
            array = self._tensors.read(self._key).reshape(self._shape)
        if self._keep:
            axis, length = self._keep
            array = array[(slice(None),) * (axis % array.ndim) + (slice(length),)]
        return array


def _leading(axes: Factors) -> set[str]:
    """The slowest atom of the first dimension, if that dimension is a single product."""
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


class Run(Struct, frozen=True):
    """Consecutive elements of a leaf: those along ``axes``, with the other atoms at one index each."""

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

    ``restored`` turns elements of a target (1-D, its carrier) into those that the source had. What the conversion
    cropped comes from ``kept``, or is ``fill`` (in the source's carrier). ``scratch`` is for what is transposed.
    """

    def __init__(
        self,
        step: Step,
        key: str,
        spec: TensorSpec,
        target: Tensors,
        restored: Callable[[np.ndarray], np.ndarray],
        *,
        fill: Any = 0,
        kept: Tensors | None = None,
        scratch: Scratch | None = None,
    ) -> None:
        side = next(side for side in step.sources if side.key == key)
        self._at: Mapping[str, int] = side.at
        self._sizes = dict(step.sizes)
        self._axes = read_axes(side.axes)
        self._dtype = carrier(spec.dtype)
        self._restored = restored
        self._fill = fill
        self._beyond: Stored | None = None
        if len(self._axes) != len(spec.shape):
            raise undoable(f"{key}: its axes aren't those of the shape {list(spec.shape)}")
        if crop := step.crop:
            place = crop.axis % len(self._axes)
            self._sizes[CROPPED] = spec.shape[place] - crop.keep
            before, cut, after = self._axes[:place], self._axes[place], self._axes[place + 1 :]
            self._axes = (*before, Sum(((cut,), (CROPPED,))), *after)
            if kept and crop.kept_as in kept.leaves:
                axes = (*before, CROPPED, *after)
                self._beyond = Stored(kept, crop.kept_as, axes, self._sizes, at={}, slow=_leading(axes))
        if shape_of(self._axes, self._sizes) != spec.shape:
            raise undoable(f"{key}: its axes and sizes don't give the shape {list(spec.shape)}")
        keep = (step.pad.axis, step.pad.keep) if step.pad else None
        scratch = scratch if len(step.targets) == 1 else None  # a file for each of very many would fill a disk
        order = list(dict.fromkeys(itertools.chain.from_iterable(multiplied(self._axes))))
        self._stored: dict[frozenset[str], list[Stored]] = {}
        for there in step.targets:
            at, axes = there.at, read_axes(there.axes)
            slow = {next((atom for atom in atoms if atom not in at), "") for atoms in multiplied(self._axes)}
            slow |= self._at.keys()
            stored = Stored(
                target, there.key, axes, step.sizes, at=at, slow=slow, keep=keep, order=order, scratch=scratch
            )
            for atoms in multiplied(axes):
                self._stored.setdefault(frozenset([*atoms, *at]), []).append(stored)

    def blocks(self, limit: int | None = None) -> Iterator[np.ndarray]:
        """The whole leaf in C order: 1-D arrays in its carrier, which the caller must not write to.

        ``limit`` is the most elements in one; :data:`BLOCK` bytes unless it is given.
        """
        try:
            for run in runs(self._axes, self._sizes, limit or BLOCK // self._dtype.itemsize):
                yield self._made(run)
        finally:
            for stored in itertools.chain.from_iterable(self._stored.values()):
                stored.close()

    def _made(self, run: Run) -> np.ndarray:
        names = list(multiplied(run.axes))
        if len(names) == 1 and CROPPED not in names[0]:
            found = list(self._parts(names[0], run))
            if len(found) == 1:
                return self._restored(contiguous(found[0][1]))
        block = np.empty(shape_of(run.axes, run.sizes), self._dtype)
        for atoms, place in pieces(block, run.axes, run.sizes):
            if CROPPED not in atoms:
                for spot, part in self._parts(atoms, run):
                    place[(*spot, ...)] = self._restored(contiguous(part)).reshape(part.shape)
            elif self._beyond:
                place[...] = self._beyond.piece({*atoms, *run.where}, run.where, atoms)
            else:
                place[...] = self._fill
        return block.reshape(-1)

    def _parts(self, atoms: Sequence[str], run: Run) -> Iterator[tuple[tuple[int | slice, ...], np.ndarray]]:
        """Yield the elements that the targets hold for a piece of a run, with their places in the piece."""
        where: dict[str, int | slice] = {**self._at, **run.where}
        whole = frozenset([*atoms, *where])
        for stored in self._stored[whole]:
            spans = {name: span(where.get(name, slice(None)), self._sizes[name]) for name in stored.at}
            if all(low <= stored.at[name] < high for name, (low, high) in spans.items()):
                spot = tuple(stored.at[name] - spans[name][0] if name in spans else slice(None) for name in atoms)
                yield spot, stored.piece(whole - spans.keys(), where, [name for name in atoms if name not in spans])
