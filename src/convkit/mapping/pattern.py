"""Rearrangements: how the structure of a tensor lies in its axes, on two sides of a mapping.

One grammar, in the spirit of einops, with sums and without reductions::

    pattern := side "->" side
    side    := axes                                  one expression for every leaf of the side
             | name ":" axes ("|" name ":" axes)*    one a branch of a placeholder of that side's key
    axes    := axis*                                 one a dimension of the tensor
    axis    := atom | "1" | "..." | "(" sum ")"
    sum     := product ("+" product)*                unequal parts laid end to end
    product := factor+                               the first factor is the slowest
    factor  := atom | "1" | "(" sum ")"
    atom    := a name | "{" placeholder "}"          the branch's own name, as an atom

Multiplied out, a side is a set of *pieces*, each a set of atoms, and an atom is an axis that lies in
a tensor (with a stride) or in a key (with an index). The two sides have the same pieces, each once:
so a pattern is a bijection, its inverse is itself read backwards, and every piece is one strided copy.

>>> pattern = Pattern.parse("(h two r) d -> (h r two) d")
>>> str(pattern.inverse())
'(h r two) d -> (h two r) d'
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache, cached_property, lru_cache

from msgspec import Struct

_TOKEN = re.compile(r"\s*(\.\.\.|\{\w+\}|\w+|[()+:|]|$)")


class PatternError(ValueError):
    """A pattern that can't be read, isn't a bijection, or doesn't fit a shape."""


class Atom(Struct, frozen=True):
    """An indivisible axis. ``branch`` marks ``{placeholder}``: the branch's own name is the atom."""

    name: str
    branch: bool = False

    def __str__(self) -> str:
        return f"{{{self.name}}}" if self.branch else self.name


class Product(Struct, frozen=True):
    """Factors of one axis, the slowest first; without factors it is the unit axis ``1``."""

    factors: tuple[Atom | Sum, ...]

    def __str__(self) -> str:
        return " ".join(map(str, self.factors)) or "1"


class Sum(Struct, frozen=True, dict=True):
    """Terms laid end to end on one axis."""

    terms: tuple[Product, ...]

    @cached_property
    def atoms(self) -> tuple[Atom, ...]:
        """Its atoms, in their order."""
        factors = (factor for term in self.terms for factor in term.factors)
        return tuple(atom for one in factors for atom in (one.atoms if isinstance(one, Sum) else (one,)))

    @cached_property
    def names(self) -> frozenset[str]:
        """The names of its atoms."""
        return frozenset(atom.name for atom in self.atoms)

    def __str__(self) -> str:
        text = " + ".join(map(str, self.terms))
        single = len(self.terms) == 1 and len(self.terms[0].factors) <= 1
        return text if single and not any(isinstance(f, Sum) for f in self.terms[0].factors) else f"({text})"


ELLIPSIS = "..."


class Axes(Struct, frozen=True, dict=True):
    """The dimensions of one tensor."""

    dims: tuple[Sum | str, ...]

    @cached_property
    def _branched(self) -> bool:
        return any(atom.branch for atom in self.atoms())

    @cached_property
    def _text(self) -> str:
        return " ".join(map(str, self.dims))

    def __str__(self) -> str:
        return self._text

    def expand(self, rank: int, rule: str) -> Axes:
        """Replace the ellipsis by atoms ``_0 _1 ...``, so that there are ``rank`` dimensions."""
        if ELLIPSIS not in self.dims:
            if len(self.dims) != rank:
                raise PatternError(f"rule {rule}: '{self}' has {len(self.dims)} axes, the tensor has {rank}")
            return self
        extra = rank - (len(self.dims) - 1)
        if extra < 0:
            raise PatternError(f"rule {rule}: '{self}' has at least {len(self.dims) - 1} axes, the tensor has {rank}")
        return self.with_ellipsis(extra)

    def with_ellipsis(self, extra: int) -> Axes:
        """Replace the ellipsis by ``extra`` atoms; without an ellipsis nothing changes."""
        if ELLIPSIS not in self.dims:
            return self
        atoms = tuple(_single(f"_{n}") for n in range(extra))
        dims: list[Sum | str] = []
        for dim in self.dims:
            dims.extend(atoms if dim == ELLIPSIS else (dim,))
        return Axes(tuple(dims))

    @lru_cache(maxsize=1024)  # noqa: B019 (an expression is a value; leaves that are stacked share the result)
    def without(self, stacked: tuple[str, ...]) -> Axes:
        """The expression of one leaf, without the axes that lie in the keys."""
        gone = [_single(name) for name in stacked]
        return Axes(tuple(dim for dim in self.dims if dim not in gone)) if gone else self

    def for_branch(self, names: Mapping[str, str]) -> Axes:
        """Replace each ``{placeholder}`` by its name in this branch.

        Raises:
            PatternError: the leaf's key has no such placeholder.
        """
        if not self._branched:
            return self

        def visit(node: Sum) -> Sum:
            return Sum(
                tuple(
                    Product(
                        tuple(
                            visit(f) if isinstance(f, Sum) else Atom(self._own_name(f, names)) if f.branch else f
                            for f in term.factors
                        )
                    )
                    for term in node.terms
                )
            )

        return Axes(tuple(dim if isinstance(dim, str) else visit(dim) for dim in self.dims))

    def _own_name(self, atom: Atom, names: Mapping[str, str]) -> str:
        if atom.name not in names:
            raise PatternError(f"'{self}': {atom} isn't a placeholder of only this side's keys")
        return names[atom.name]

    def atoms(self) -> list[Atom]:
        """Every atom, repeated as often as it appears."""
        return [atom for dim in self.dims if isinstance(dim, Sum) for atom in dim.atoms]


class Side(Struct, frozen=True):
    """One side of a pattern: one expression, or one a branch."""

    branches: tuple[tuple[str, Axes], ...]

    def axes(self, bound: Mapping[str, int | str]) -> Axes:
        """The expression for the leaf whose placeholders have these values.

        Raises:
            PatternError: no branch fits.
        """
        values = {name: str(value) for name, value in bound.items()}
        for name, axes in self.branches:
            if name in ("", *values.values()):
                return axes.for_branch(values)
        raise PatternError(f"'{self}' has no branch for {values}")

    def stacks(self, placeholder: str) -> bool:
        """Whether a placeholder of this side's key is an axis of the expression: leaves stacked along it."""
        return all(_single(placeholder) in axes.dims for _, axes in self.branches)

    def __str__(self) -> str:
        return " | ".join(f"{name}: {axes}" if name else str(axes) for name, axes in self.branches)


class Pattern(Struct, frozen=True, dict=True):
    """A rearrangement; :meth:`inverse` is the same read backwards."""

    left: Side
    right: Side

    @classmethod
    @cache
    def parse(cls, text: str) -> Pattern:
        """Read a pattern.

        Raises:
            PatternError: with the text and what is wrong in it.
        """
        halves = text.split("->")
        if len(halves) != 2:
            raise PatternError(f"'{text}': a pattern has two sides, with '->' between them")
        return cls(_Parser(halves[0], text).side(), _Parser(halves[1], text).side())

    def inverse(self) -> Pattern:
        """The same bijection in the other direction."""
        return Pattern(self.right, self.left)

    @cached_property
    def _text(self) -> str:
        return f"{self.left} -> {self.right}"

    def __str__(self) -> str:
        return self._text


class _Parser:
    """Recursive descent over one side."""

    def __init__(self, half: str, whole: str) -> None:
        self.whole = whole
        self.tokens: list[str] = []
        position = 0
        while position < len(half.rstrip()):
            found = _TOKEN.match(half, position)
            if not found or found.end() == position:
                raise PatternError(f"'{whole}': can't read '{half[position:].strip()}'")
            self.tokens.append(found[1])
            position = found.end()
        self.at = 0

    def side(self) -> Side:
        branches: list[tuple[str, Axes]] = []
        while True:
            name = ""
            if self._peek(1) == ":":
                name = self._next()
                self._next()
            branches.append((name, self.axes()))
            if self._peek() != "|":
                break
            self._next()
        if self._peek():
            raise PatternError(f"'{self.whole}': unexpected '{self._peek()}'")
        names = {name for name, _ in branches}
        if len(branches) > 1 and ("" in names or len(names) < len(branches)):
            raise PatternError(f"'{self.whole}': every branch needs a name of its own")
        return Side(tuple(branches))

    def axes(self) -> Axes:
        dims: list[Sum | str] = []
        while self._peek() not in ("", "|"):
            if self._peek() == ELLIPSIS:
                if ELLIPSIS in dims:
                    raise PatternError(f"'{self.whole}': a side can have only one '...'")
                dims.append(self._next())
            elif self._peek() == "(":
                dims.append(self.group())
            else:
                dims.append(Sum((Product(self.factor()),)))
        return Axes(tuple(dims))

    def group(self) -> Sum:
        self._next()
        terms = [self.product()]
        while self._peek() == "+":
            self._next()
            terms.append(self.product())
        if self._next() != ")":
            raise PatternError(f"'{self.whole}': a '(' isn't closed")
        return Sum(tuple(terms))

    def product(self) -> Product:
        factors: list[Atom | Sum] = []
        empty = True
        while self._peek() not in ("", "+", ")", "|"):
            empty = False
            factors.extend(self.factor() if self._peek() != "(" else _spliced(self.group()))
        if empty:
            raise PatternError(f"'{self.whole}': an empty term")
        return Product(tuple(factors))

    def factor(self) -> tuple[Atom, ...]:
        token = self._next()
        if token == "1":
            return ()
        if token.startswith("{"):
            return (Atom(token[1:-1], branch=True),)
        if not token.isidentifier():
            raise PatternError(f"'{self.whole}': unexpected '{token}'")
        return (Atom(token),)

    def _peek(self, ahead: int = 0) -> str:
        return self.tokens[self.at + ahead] if self.at + ahead < len(self.tokens) else ""

    def _next(self) -> str:
        token = self._peek()
        self.at += 1
        return token


def _spliced(group: Sum) -> tuple[Atom | Sum, ...]:
    """A group as factors of the product around it: ``(a (b c))`` is ``(a b c)``."""
    return group.terms[0].factors if len(group.terms) == 1 else (group,)


@cache
def _single(name: str) -> Sum:
    return Sum((Product((Atom(name),)),))
