"""Parts of a leaf that lies in a file as it is: read where they lie, in windows of bounded size.

Rows of a run that cuts across the rows of what is read are short. So more of each row is read than the run needs, and
held for the runs after it: in memory, or, where runs transpose what is read, in their order, in a scratch file that is
mapped into memory. That has room for much more: most leaves are read in their own order.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from convkit.checkpoint import Tensors
from convkit.checkpoint.tensors import carrier
from convkit.files.scratch import Lent, Scratch
from convkit.verify.blocks import spans
from convkit.verify.roundtrip.notation import Factors, Sizes, ordered, pieces
from convkit.verify.roundtrip.turning import turn

#: bytes that are held in memory
WINDOW = 16 << 20
#: bytes of a scratch file, those of a leaf that is worth one, and those that are read for it at once
FILE, LEAST, _READ = 128 << 20, 1 << 20, 4 << 20
#: elements that are read for each one that is needed, where rows lie close together
_CLOSE = 2

#: for each atom its first index, and the one after its last
Spans = Mapping[str, tuple[int, int]]


class Windows:
    """The pieces of one leaf. For one thread.

    ``keep`` is (dimension, length): elements beyond are padding. ``order`` are the atoms of the runs, the slowest
    first, except those that have one index in all of them. ``scratch`` has files for what they transpose.
    """

    def __init__(
        self,
        tensors: Tensors,
        key: str,
        axes: Factors,
        sizes: Sizes,
        keep: tuple[int, int] | None = None,
        *,
        order: Sequence[str] = (),
        scratch: Scratch | None = None,
    ) -> None:
        self._order = order
        self._scratch = scratch
        self._lent = Lent(scratch)
        self._tensors = tensors
        self._key = key
        spec = tensors.spec(key)
        self._dtype = carrier(spec.dtype)
        self._most = WINDOW // spec.itemsize
        # an array of which nothing is read: its addresses say where elements lie, a byte for each
        self._origin = np.empty(1, np.uint8)
        steps = [math.prod(spec.shape[axis + 1 :]) for axis in range(len(spec.shape))]
        places = np.lib.stride_tricks.as_strided(self._origin, spec.shape, steps, writeable=False)
        if keep:
            places = places[(slice(None),) * (keep[0] % places.ndim) + (slice(keep[1]),)]
        self._places = {frozenset(names): (names, array) for names, array in pieces(places, axes, sizes)}
        self._held: tuple[frozenset[str], Spans, np.ndarray] | None = None

    def piece(self, atoms: Iterable[str], wanted: Spans, whole: Iterable[str], order: Sequence[str]) -> np.ndarray:
        """The part of the piece with these atoms in ``wanted`` (of all of them), with the axes ``order``.

        ``whole`` are the atoms that stay axes; the others have one index.
        """
        kind, kept = frozenset(atoms), set(whole)
        names, _ = self._places[kind]
        if self._held is None or self._held[0] != kind or not _within(wanted, self._held[1]):
            self._held = None  # before more is read
            self._held = kind, *(self._turned(kind, wanted) or self._opened(kind, wanted))
        _, window, array = self._held
        spots: list[int | slice] = []
        for name in names:
            low, high = (edge - window[name][0] for edge in wanted[name])
            spots.append(slice(low, high) if name in kept else low)
        return ordered((tuple(name for name in names if name in kept), array[(*spots, ...)]), order)

    def close(self) -> None:
        """Let others use the scratch file."""
        self._held = None
        self._lent.close()

    def _turned(self, kind: frozenset[str], wanted: Spans) -> tuple[Spans, np.ndarray] | None:
        """What a scratch file holds, in the order of the runs; None where they don't transpose it, or without room."""
        names, places = self._places[kind]
        order = [*(name for name in names if name not in self._order), *(n for n in self._order if n in kind)]
        long = {name for name, length in zip(names, places.shape, strict=True) if length > 1}
        fast = [[name for name in some if name in long][-1:] for some in (names, order)]
        if self._scratch is None or fast[0] == fast[1] or places.size * self._dtype.itemsize < LEAST:
            return None
        window = self._stretched(wanted, dict(zip(names, places.shape, strict=True)))
        shape = [high - low for low, high in (window[name] for name in order)]
        room = self._lent.room(math.prod(shape) * self._dtype.itemsize)
        if room is None:
            return None
        into = room.view(self._dtype).reshape(shape).transpose([order.index(name) for name in names])
        for part in _portions(window, names, max(1, _READ // self._dtype.itemsize)):
            spot = tuple(slice(*(edge - window[name][0] for edge in part[name])) for name in names)
            turn(self._read(kind, part), into[spot])
        return window, into

    def _stretched(self, wanted: Spans, lengths: Mapping[str, int]) -> dict[str, tuple[int, int]]:
        """As many of the runs after this one as a scratch file holds."""
        window = dict(wanted)
        for name in reversed([name for name in self._order if name in window]):
            low, high = window[name]
            others = math.prod(stop - start for start, stop in window.values()) // max(1, high - low)
            most = FILE // self._dtype.itemsize // max(1, others)
            window[name] = low, min(lengths[name], max(high, low + most))
            if window[name] != (0, lengths[name]):
                break
        return window

    def _opened(self, kind: frozenset[str], wanted: Spans) -> tuple[Spans, np.ndarray]:
        """What a window in memory holds, as it was read."""
        window = self._widened(kind, wanted)
        return window, self._read(kind, window)

    def _widened(self, kind: frozenset[str], wanted: Spans) -> dict[str, tuple[int, int]]:
        """As many indices of the atom that lies closest as a window holds."""
        names, places = self._places[kind]
        window = dict(wanted)
        long = [name for name, length in zip(names, places.shape, strict=True) if length > 1]
        if long:
            fast = min(long, key=lambda name: places.strides[names.index(name)])
            low, high = window[fast]
            others = math.prod(b - a for name, (a, b) in window.items() if name in names and name != fast)
            end = max(high, low + self._most // max(1, others))
            window[fast] = low, min(places.shape[names.index(fast)], end)
        return window

    def _read(self, kind: frozenset[str], window: Spans) -> np.ndarray:
        names, places = self._places[kind]
        within: list[Any] = [slice(*window[name]) for name in names]
        part = places[(*within, ...)]
        first = part.__array_interface__["data"][0] - self._origin.__array_interface__["data"][0]
        axes = sorted(range(part.ndim), key=lambda axis: (part.strides[axis], part.shape[axis]))
        extent, useful, inner = 1, 1, 0
        for axis in axes:
            reach = extent + (part.shape[axis] - 1) * part.strides[axis]
            if inner and reach > _CLOSE * useful * part.shape[axis]:
                break
            extent, useful, inner = reach, useful * part.shape[axis], inner + 1
        outer = axes[inner:][::-1]
        starts = np.array([first])
        for axis in outer:
            starts = np.add.outer(starts, np.arange(part.shape[axis]) * part.strides[axis]).reshape(-1)
        rows = self._tensors.rows(self._key, starts.tolist(), extent)
        shape = [part.shape[axis] for axis in (*outer, *axes[:inner])]
        steps = [extent * math.prod(part.shape[axis] for axis in outer[n + 1 :]) for n in range(len(outer))]
        steps += [part.strides[axis] for axis in axes[:inner]]
        found = np.lib.stride_tricks.as_strided(rows, shape, [step * rows.itemsize for step in steps])
        return found.transpose(np.argsort([*outer, *axes[:inner]]))


def _portions(window: Spans, names: Sequence[str], most: int) -> Iterator[dict[str, tuple[int, int]]]:
    """A window in parts of at most ``most`` elements, cut along the first of the atoms."""
    if not names:
        yield dict(window)
        return
    low, high = window[names[0]]
    rest = math.prod(stop - start for name, (start, stop) in window.items() if name in names[1:])
    if rest <= most:
        for start, stop in spans(high - low, max(1, most // max(1, rest))):
            yield {**window, names[0]: (low + start, low + stop)}
        return
    for index in range(low, high):
        yield from _portions({**window, names[0]: (index, index + 1)}, names[1:], most)


def _within(wanted: Spans, window: Spans) -> bool:
    return all(window[name][0] <= low and high <= window[name][1] for name, (low, high) in wanted.items())
