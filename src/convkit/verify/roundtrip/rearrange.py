"""The plan's notation, read by a reader of its own: source leaves made again from target leaves.

A leaf's ``axes`` say of which atoms its dimensions consist: products ``(a b)``, parts laid end to end
``(a + b)``, ``1``. Its ``at`` names the atoms that lie in its key, with their index. Multiplied out, a
leaf is a few *pieces*, each an array with an axis for every atom: einops takes products apart, parts are
slices, so a piece of a mapped tensor is a view. Pieces of the two sides that have the same atoms, those
in keys included, hold the same elements; :func:`check_bijection` proves that each element has one place
on either side.

A leaf is made again in *runs*: consecutive elements in C order, some atoms at one index, one in a range,
the others whole. No more than a run is held in memory; of a leaf that must be decoded also the rows that
a run needs, or all of it where runs need it crosswise.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from einops import rearrange

from convkit.checkpoint import Checkpoint, TensorSpec
from convkit.checkpoint.tensors import carrier
from convkit.errors import ConvkitError

Sizes = Mapping[str, int]
#: one index of an atom, or a range of them
Where = Mapping[str, "int | slice"]
#: an array, and the atoms of its axes
Piece = tuple[tuple[str, ...], np.ndarray]

#: bytes of a run: it stays in a second-level cache while it is turned, compared and digested
RUN = 2 << 20
#: elements of the last axis that a transposition turns at once, through rows kept from lying a power of two apart
TILE = 256
PADDING = 16
#: the atom of what a conversion cut off
CROPPED = "cropped"

_TOKEN = re.compile(r"\s*(\w+|[()+])")


# --- the notation ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sum:
    """Parts laid end to end; one part alone is a product in brackets, and an empty one is ``1``."""

    parts: tuple[Factors, ...]


#: the dimensions of a leaf, or the factors of one dimension: either way the first is the slowest
Factors = tuple["str | Sum", ...]


def read_axes(text: str) -> Factors:
    """The dimensions of a leaf.

    >>> read_axes("(h two) d 1")
    (Sum(parts=(('h', 'two'),)), 'd', Sum(parts=((),)))

    Raises:
        ConvkitError: not in the notation.
    """
    tokens = _TOKEN.findall(text)
    try:
        if "".join(tokens) != "".join(text.split()):
            raise IndexError
        axes = _factors(tokens)
        if tokens:
            raise IndexError
    except IndexError:
        raise _undoable(f"its axes {text!r} are not in the notation") from None
    return axes


def _factors(tokens: list[str]) -> Factors:
    found: list[str | Sum] = []
    while tokens and tokens[0] not in ("+", ")"):
        token = tokens.pop(0)
        if token == "(":
            parts = [_factors(tokens)]
            while tokens.pop(0) == "+":
                parts.append(_factors(tokens))
            if not all(parts):
                raise IndexError
            found.append(Sum(tuple(parts)))
        else:
            found.append(Sum(((),)) if token == "1" else token)
    return tuple(found)


def shape_of(factors: Factors, sizes: Sizes) -> tuple[int, ...]:
    """Length of each factor."""
    return tuple(_length(factor, sizes) for factor in factors)


def _size(factors: Factors, sizes: Sizes) -> int:
    return math.prod(shape_of(factors, sizes))


def _length(factor: str | Sum, sizes: Sizes) -> int:
    if isinstance(factor, Sum):
        return sum(_size(part, sizes) for part in factor.parts)
    if factor not in sizes:
        raise _undoable(f"the size of {factor!r} is missing")
    return sizes[factor]


def _first_sum(axes: Factors) -> tuple[int, Sum] | None:
    return next(((place, factor) for place, factor in enumerate(axes) if isinstance(factor, Sum)), None)


def multiplied(axes: Factors) -> Iterator[tuple[str, ...]]:
    """The atoms of each piece, the slowest first."""
    if (found := _first_sum(axes)) is None:
        yield tuple(map(str, axes))
    else:
        place, factor = found
        for part in factor.parts:
            yield from multiplied(axes[:place] + part + axes[place + 1 :])


def pieces(array: np.ndarray, axes: Factors, sizes: Sizes) -> Iterator[Piece]:
    """The pieces of an array whose dimensions are ``axes``: views, with an axis for every atom."""
    if (found := _first_sum(axes)) is None:
        yield tuple(map(str, axes)), array
        return
    place, factor = found
    end = 0
    for part in factor.parts:
        start, end = end, end + _size(part, sizes)
        cut = array[(slice(None),) * place + (slice(start, end),)]
        split = _split(cut, place, shape_of(part, sizes))
        yield from pieces(split, axes[:place] + part + axes[place + 1 :], sizes)


def _split(array: np.ndarray, place: int, lengths: Sequence[int]) -> np.ndarray:
    """One axis taken apart into factors of those lengths."""
    inner = {f"f{n}": length for n, length in enumerate(lengths)}
    before, after = ([f"x{n}" for n in span] for span in (range(place), range(place + 1, array.ndim)))
    packed = " ".join([*before, f"({' '.join(inner)})", *after])
    return rearrange(array, f"{packed} -> {' '.join([*before, *inner, *after])}", **inner)


def _ordered(piece: Piece, order: Sequence[str]) -> np.ndarray:
    """A piece with its axes in another order."""
    names, array = piece
    left, right = (" ".join(f"x{names.index(name)}" for name in side) for side in (names, order))
    return rearrange(array, f"{left} -> {right}")


# --- a step as a whole ---------------------------------------------------------------------------------------


def check_bijection(step: Mapping[str, Any]) -> None:
    """Every element of the step's sources has one place in its targets, and the other way round.

    Raises:
        ConvkitError: the sides don't have the same pieces, or one is there twice, or not at every index.
    """
    source, target = (_spanned(step[side], step["sizes"]) for side in ("sources", "targets"))
    if source != target:
        names = ", ".join(" ".join(sorted(atoms)) or "1" for atoms in source ^ target)
        raise _undoable(f"rule {step['rule']}: only one side has the piece {names}")


def _spanned(sides: Iterable[Mapping[str, Any]], sizes: Sizes) -> set[frozenset[str]]:
    """The sets of atoms that one side spans, each of them once and whole."""
    spanned: dict[frozenset[str], list[dict[str, int]]] = {}
    for side in sides:
        for atoms in multiplied(read_axes(side["axes"])):
            whole = frozenset([*atoms, *side["at"]])
            if len(whole) < len(atoms) + len(side["at"]):
                raise _undoable(f"{side['key']}: an atom is there twice")
            spanned.setdefault(whole, []).append(side["at"])
    for cells in spanned.values():
        names = tuple(cells[0])
        indices = itertools.product(*map(range, shape_of(names, sizes)))
        wanted = {frozenset(zip(names, index, strict=True)) for index in indices}
        if {frozenset(cell.items()) for cell in cells} != wanted or len(cells) != len(wanted):
            raise _undoable(f"its leaves aren't one for every index of {' '.join(names) or 'nothing'}")
    return set(spanned)


def _undoable(problem: str) -> ConvkitError:
    return ConvkitError(problem, remedy="the plan can't be undone: make it again, or report it")


# --- the side that is read -------------------------------------------------------------------------------------


class Stored:
    """A leaf that is read, in its pieces. For one thread.

    ``keep`` is (dimension, length): what lies beyond was filled in. ``slow`` are the atoms that are gone
    through once, so that rows by them are read once.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        key: str,
        axes: Factors,
        sizes: Sizes,
        *,
        at: Mapping[str, int],
        slow: set[str],
        keep: tuple[int, int] | None = None,
    ) -> None:
        self.at = at
        self._checkpoint = checkpoint
        self._key = key
        self._axes = axes
        self._sizes = sizes
        self._keep = keep
        self._shape = tensor_spec(checkpoint, key).shape
        kept = list(self._shape)
        if keep:
            kept[keep[0]] = keep[1]
        if tuple(kept) != shape_of(axes, sizes):
            raise _undoable(f"{key}: its axes and sizes don't give the shape {kept}")
        self._view = checkpoint.view(key)
        #: the slowest atom, where rows are to be read by it
        self._leading = next(iter(slow & _leading(axes)), None) if self._view is None else None
        self._held: tuple[int, int, dict[frozenset[str], Piece]] | None = None

    def piece(self, atoms: Iterable[str], where: Where, order: Sequence[str]) -> np.ndarray:
        """What lies ``where`` in the piece of these atoms, the axes in that order."""
        low, held = self._rows(where)
        names, array = held[frozenset(atoms)]
        spots = [_moved(where.get(name, slice(None)), low if name == self._leading else 0) for name in names]
        left = tuple(name for name, spot in zip(names, spots, strict=True) if isinstance(spot, slice))
        return _ordered((left, array[(*spots, ...)]), order)

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
            array = self._checkpoint.read(self._key, start * row, (start + wanted) * row)
            array = array.reshape(wanted, *self._shape[1:])
        elif array is None:
            array = self._checkpoint.read(self._key).reshape(self._shape)
        if self._keep:
            axis, length = self._keep
            array = array[(slice(None),) * (axis % array.ndim) + (slice(length),)]
        return array


def tensor_spec(checkpoint: Checkpoint, key: str) -> TensorSpec:
    """Shape and dtype of a tensor.

    Raises:
        ConvkitError: there is none of that name.
    """
    leaf = checkpoint.leaves.get(key)
    if leaf is None or leaf.spec is None:
        raise ConvkitError("holds no tensor of this name", path=checkpoint.path, key=key, remedy="convert again")
    return leaf.spec


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
    if not axes or _size(axes, sizes) <= limit:
        yield Run(axes, sizes, where)
        return
    first, rest = axes[0], axes[1:]
    if isinstance(first, Sum):
        for part in first.parts:
            yield from runs(part + rest, sizes, limit, where)
    elif step := limit // _size(rest, sizes):
        for start in range(0, sizes[first], step):
            stop = min(start + step, sizes[first])
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
        target: Checkpoint,
        restored: Callable[[np.ndarray], np.ndarray],
        *,
        fill: Any = 0,
        kept: Checkpoint | None = None,
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
            raise _undoable(f"{key}: its axes and sizes don't give the shape {list(spec.shape)}")
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

        ``limit`` is the most elements in one; :data:`RUN` bytes unless it is given.
        """
        for run in runs(self._axes, self._sizes, limit or RUN // self._dtype.itemsize):
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
