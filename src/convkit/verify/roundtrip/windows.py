"""Parts of a leaf that lies in a file as it is: read where they lie, in windows of bounded size.

Rows of a run that cuts across the rows of what is read are short. So more of each row is read than the run needs, and
held for the runs after it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from convkit.checkpoint import Tensors
from convkit.verify.roundtrip.notation import Factors, Sizes, ordered, pieces

#: bytes that are held
WINDOW = 16 << 20
#: elements that are read for each one that is needed, where rows lie close together
_CLOSE = 2

#: for each atom its first index, and the one after its last
Spans = Mapping[str, tuple[int, int]]


class Windows:
    """The pieces of one leaf. For one thread. ``keep`` is (dimension, length): elements beyond are padding."""

    def __init__(
        self, tensors: Tensors, key: str, axes: Factors, sizes: Sizes, keep: tuple[int, int] | None = None
    ) -> None:
        self._tensors = tensors
        self._key = key
        spec = tensors.spec(key)
        self._most = WINDOW // spec.itemsize
        # an array of which nothing is read: its addresses say where elements lie, a byte for each
        self._origin = np.empty(1, np.uint8)
        steps = [math.prod(spec.shape[axis + 1 :]) for axis in range(len(spec.shape))]
        places = np.lib.stride_tricks.as_strided(self._origin, spec.shape, steps, writeable=False)
        if keep:
            places = places[(slice(None),) * (keep[0] % places.ndim) + (slice(keep[1]),)]
        self._places = {frozenset(names): (names, array) for names, array in pieces(places, axes, sizes)}
        self._held: tuple[frozenset[str], dict[str, tuple[int, int]], np.ndarray] | None = None

    def piece(self, atoms: Iterable[str], wanted: Spans, whole: Iterable[str], order: Sequence[str]) -> np.ndarray:
        """The part of the piece with these atoms in ``wanted`` (of all of them), with the axes ``order``.

        ``whole`` are the atoms that stay axes; the others have one index.
        """
        kind, kept = frozenset(atoms), set(whole)
        names, _ = self._places[kind]
        if self._held is None or self._held[0] != kind or not _within(wanted, self._held[1]):
            self._held = None  # before more is read
            window = self._widened(kind, wanted)
            self._held = kind, window, self._read(kind, window)
        _, window, array = self._held
        spots: list[int | slice] = []
        for name in names:
            low, high = (edge - window[name][0] for edge in wanted[name])
            spots.append(slice(low, high) if name in kept else low)
        return ordered((tuple(name for name in names if name in kept), array[(*spots, ...)]), order)

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


def _within(wanted: Spans, window: Spans) -> bool:
    return all(window[name][0] <= low and high <= window[name][1] for name, (low, high) in wanted.items())
