"""Read the plan's notation, independently of the engine.

A leaf's ``axes`` give the atoms of each dimension: products ``(a b)``, parts laid end to end ``(a + b)``, ``1``. Its
``at`` gives the atoms in its key, with their index. Multiplied out, a leaf is a few *pieces*, each an array with an
axis for every atom: einops splits products, parts are slices, so a piece is a view. Pieces of the
two sides that have the same atoms, including those in keys, hold the same elements. :func:`check_bijection` proves that
each element has exactly one place on each side.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from einops import rearrange
from msgspec import Struct

from convkit.errors import ConvkitError
from convkit.verify.documents import Part, Step

Sizes = Mapping[str, int]
#: the atoms of an array's axes, and the array
Piece = tuple[tuple[str, ...], np.ndarray]

_TOKEN = re.compile(r"\s*(\w+|[()+])")


class Sum(Struct, frozen=True):
    """Parts laid end to end. A single part is a product in brackets; an empty one is ``1``."""

    parts: tuple[Factors, ...]


#: the dimensions of a leaf, or the factors of one dimension; the first is the slowest in both
Factors = tuple["str | Sum", ...]


def read_axes(text: str) -> Factors:
    """Parse the dimensions of a leaf.

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
        raise undoable(f"its axes {text!r} are not in the notation") from None
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
    """The length of each factor."""
    return tuple(_length(factor, sizes) for factor in factors)


def size_of(factors: Factors, sizes: Sizes) -> int:
    """Number of elements that these factors span."""
    return math.prod(shape_of(factors, sizes))


def _length(factor: str | Sum, sizes: Sizes) -> int:
    if isinstance(factor, Sum):
        return sum(size_of(part, sizes) for part in factor.parts)
    if factor not in sizes:
        raise undoable(f"the size of {factor!r} is missing")
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
    """Cut an array whose dimensions are ``axes`` into pieces: views, with an axis for every atom."""
    if (found := _first_sum(axes)) is None:
        yield tuple(map(str, axes)), array
        return
    place, factor = found
    end = 0
    for part in factor.parts:
        start, end = end, end + size_of(part, sizes)
        cut = array[(slice(None),) * place + (slice(start, end),)]
        split = _split(cut, place, shape_of(part, sizes))
        yield from pieces(split, axes[:place] + part + axes[place + 1 :], sizes)


def _split(array: np.ndarray, place: int, lengths: Sequence[int]) -> np.ndarray:
    """Split one axis of an array into factors of these lengths."""
    inner = {f"f{n}": length for n, length in enumerate(lengths)}
    before, after = ([f"x{n}" for n in span] for span in (range(place), range(place + 1, array.ndim)))
    packed = " ".join([*before, f"({' '.join(inner)})", *after])
    return rearrange(array, f"{packed} -> {' '.join([*before, *inner, *after])}", **inner)


def ordered(piece: Piece, order: Sequence[str]) -> np.ndarray:
    """Put the axes of a piece in another order."""
    names, array = piece
    left, right = (" ".join(f"x{names.index(name)}" for name in side) for side in (names, order))
    return rearrange(array, f"{left} -> {right}")


# --- a step as a whole ---------------------------------------------------------------------------------------


def check_bijection(step: Step) -> None:
    """Check that every element of a step's sources has exactly one place in its targets, and the reverse.

    Raises:
        ConvkitError: the sides have different pieces, or a side has a piece twice, or not at every index.
    """
    source, target = (_spanned(side, step.sizes) for side in (step.sources, step.targets))
    if source != target:
        names = ", ".join(" ".join(sorted(atoms)) or "1" for atoms in source ^ target)
        raise undoable(f"rule {step.rule}: only one side has the piece {names}")


def _spanned(sides: Iterable[Part], sizes: Sizes) -> set[frozenset[str]]:
    """The sets of atoms that one side spans, each exactly once and completely."""
    spanned: dict[frozenset[str], list[dict[str, int]]] = {}
    for side in sides:
        for atoms in multiplied(read_axes(side.axes)):
            whole = frozenset([*atoms, *side.at])
            if len(whole) < len(atoms) + len(side.at):
                raise undoable(f"{side.key}: an atom is there twice")
            spanned.setdefault(whole, []).append(side.at)
    for cells in spanned.values():
        names = tuple(cells[0])
        if len(cells) != size_of(names, sizes) or {frozenset(cell.items()) for cell in cells} != _indices(names, sizes):
            raise undoable(f"its leaves aren't one for every index of {' '.join(names) or 'nothing'}")
    return set(spanned)


def _indices(names: tuple[str, ...], sizes: Sizes) -> set[frozenset[tuple[str, int]]]:
    """Every index of these atoms."""
    indices = itertools.product(*map(range, shape_of(names, sizes)))
    return {frozenset(zip(names, index, strict=True)) for index in indices}


def undoable(problem: str) -> ConvkitError:
    """The error of a plan that can't be undone."""
    return ConvkitError(problem, remedy="the plan can't be undone: make it again, or report it")
