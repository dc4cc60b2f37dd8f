"""Solve the lengths of axes from shapes, and cut a tensor into the strided pieces of a pattern."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct

from convkit.mapping.pattern import Atom, Axes, PatternError, Product, Sum


class ExtentError(PatternError):
    """An axis has another length than its sizes make.

    Attributes:
        atoms: the names of these sizes.
        length: its length.
        expected: the length that they make; None if no size of what is unknown makes its length.
    """

    def __init__(self, problem: str, atoms: tuple[str, ...], length: int, expected: int | None = None) -> None:
        super().__init__(problem)
        self.atoms = atoms
        self.length = length
        self.expected = expected


# --- sizes -------------------------------------------------------------------------------------------


def extent(node: Sum, sizes: Mapping[str, int]) -> int:
    """Length of an axis.

    Raises:
        KeyError: the size of an atom isn't known.
    """
    return sum([_product_extent(term, sizes) for term in node.terms])


def shape_of(axes: Axes, sizes: Mapping[str, int]) -> tuple[int, ...]:
    """Shape of the tensor that an expanded expression describes."""
    return tuple(extent(dim, sizes) for dim in axes.dims if isinstance(dim, Sum))


def solve(axes: Axes, shape: Sequence[int], sizes: dict[str, int], rule: str) -> None:
    """Add to ``sizes`` the sizes of atoms that a tensor's shape determines.

    An axis with one unknown atom determines that atom; an axis without unknowns must agree with the shape.

    Raises:
        ExtentError: names the rule, the axis and both lengths.
        PatternError: names the rule, and the size that is missing.
    """
    pending = [(dim, length) for dim, length in zip(axes.dims, shape, strict=True) if isinstance(dim, Sum)]
    while pending:
        left = [(dim, length) for dim, length in pending if not _solve_axis(dim, length, sizes, rule)]
        if len(left) == len(pending):
            names = sorted({atom.name for dim, _ in left for atom in dim.atoms} - set(sizes))
            raise PatternError(f"rule {rule}: axis '{left[0][0]}': the sizes of {', '.join(names)} must be given")
        pending = left


def _solve_axis(node: Sum, length: int, sizes: dict[str, int], rule: str) -> bool:
    """Solve one axis; return whether all its sizes are known now."""
    if node.names <= sizes.keys():
        if (expected := extent(node, sizes)) != length:
            problem = f"should have length {expected}, the tensor has {length}"
            raise _misfit(node, length, sizes, rule, problem=problem, expected=expected)
        return True
    inner: Atom | Sum = node
    whole = length
    while isinstance(inner, Sum):
        open_terms = [term for term in inner.terms if not all(_known(one, sizes) for one in term.factors)]
        open_factors = [f for term in open_terms for f in term.factors if not _known(f, sizes)]
        if len(open_factors) > 1:
            return False
        rest = sum(_product_extent(term, sizes) for term in inner.terms if term is not open_terms[0])
        times = math.prod(_extent(f, sizes) for f in open_terms[0].factors if f is not open_factors[0])
        if whole < rest or times == 0 or (whole - rest) % times:
            problem = f"has length {length} in the tensor, which no size of '{open_factors[0]}' fits"
            raise _misfit(node, length, sizes, rule, problem=problem)
        whole, inner = (whole - rest) // times, open_factors[0]
    sizes[inner.name] = whole
    return True


def _misfit(
    node: Sum, length: int, sizes: Mapping[str, int], rule: str, *, problem: str, expected: int | None = None
) -> ExtentError:
    known = tuple(dict.fromkeys(atom.name for atom in node.atoms if atom.name in sizes))
    named = f" ({', '.join(f'{name}={sizes[name]}' for name in known)})" if known else ""
    return ExtentError(f"rule {rule}: axis '{node}'{named} {problem}", known, length, expected)


def _known(factor: Atom | Sum, sizes: Mapping[str, int]) -> bool:
    return factor.names <= sizes.keys() if isinstance(factor, Sum) else factor.name in sizes


def _extent(factor: Atom | Sum, sizes: Mapping[str, int]) -> int:
    return extent(factor, sizes) if isinstance(factor, Sum) else sizes[factor.name]


def _product_extent(term: Product, sizes: Mapping[str, int]) -> int:
    return math.prod([_extent(factor, sizes) for factor in term.factors])


# --- pieces ------------------------------------------------------------------------------------------


class Strided(Struct, frozen=True):
    """Where one piece lies in a tensor's elements in C order: an offset, and a stride per atom."""

    offset: int
    strides: dict[str, int]


def monomials(axes: Axes) -> list[frozenset[str]]:
    """The pieces of an expression as sets of atoms, without sizes."""
    out: list[frozenset[str]] = []
    for combination in itertools.product(*(_monomials(dim) for dim in axes.dims if isinstance(dim, Sum))):
        names = [name for part in combination for name in part]
        if len(set(names)) != len(names):
            raise PatternError(f"'{axes}': an axis appears twice in one piece")
        out.append(frozenset(names))
    return out


def strided_pieces(axes: Axes, sizes: Mapping[str, int], shape: Sequence[int]) -> dict[frozenset[str], Strided]:
    """Map the atoms of every piece to its place in a tensor of this shape (which padding may make longer)."""
    strides = [math.prod(shape[n + 1 :]) for n in range(len(shape))]
    per_dim = [
        list(_expand(dim, stride, sizes))
        for dim, stride in zip((d for d in axes.dims if isinstance(d, Sum)), strides, strict=True)
    ]
    pieces: dict[frozenset[str], Strided] = {}
    for combination in itertools.product(*per_dim):
        merged: dict[str, int] = {}
        for _, part in combination:
            merged |= part
        pieces[frozenset(merged)] = Strided(sum(offset for offset, _ in combination), merged)
    return pieces


def _monomials(node: Sum) -> list[tuple[str, ...]]:
    out: list[tuple[str, ...]] = []
    for term in node.terms:
        parts = [_monomials(f) if isinstance(f, Sum) else [(f.name,)] for f in term.factors]
        out.extend(tuple(itertools.chain(*combination)) for combination in itertools.product(*parts))
    return out


def _expand(node: Sum, stride: int, sizes: Mapping[str, int]) -> Iterator[tuple[int, dict[str, int]]]:
    """Offsets and strides of the pieces of one axis whose elements lie ``stride`` apart."""
    start = 0
    for term in node.terms:
        inner = _product_extent(term, sizes)
        per_factor: list[list[tuple[int, dict[str, int]]]] = []
        step = inner
        for factor in term.factors:
            length = _extent(factor, sizes)
            step = step // length if length else 0
            if isinstance(factor, Sum):
                per_factor.append(list(_expand(factor, stride * step, sizes)))
            else:
                per_factor.append([(0, {factor.name: stride * step})])
        for combination in itertools.product(*per_factor):
            merged: dict[str, int] = {}
            for _, part in combination:
                merged |= part
            yield start * stride + sum(offset for offset, _ in combination), merged
        start += inner
