"""Generated templates, patterns and checkpoints, with their meaning restated without the engine.

A pattern is generated as a tree, multiplied out by brute force: :func:`labels` says of every element
of a tensor which index it has on which atom. Two tensors correspond where their labels are equal,
which is all that a rearrangement means.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from hypothesis import strategies as st

Label = frozenset[tuple[str, int]]


# --- key templates ------------------------------------------------------------------------------------

WORD = st.from_regex(r"[a-z][a-z_]{0,4}", fullmatch=True)


@st.composite
def templates(draw: st.DrawFn) -> tuple[str, dict[str, int | str], dict[str, str]]:
    """A template whose fields are apart from each other, bindings of its axes, and declared names."""
    text: list[str] = []
    bindings: dict[str, int | str] = {}
    names: dict[str, str] = {}
    for number, kind in enumerate(draw(st.lists(st.sampled_from(["word", "integer", "choice", "config"]), min_size=1))):
        name = f"n{number}"
        if kind == "word":
            text.append(draw(WORD))
        elif kind == "integer":
            text.append(f"{{{draw(st.sampled_from(['', '', 2, 3]))}{name}}}")
            bindings[name] = draw(st.integers(0, 2000))
        elif kind == "choice":
            choices = draw(st.lists(WORD, min_size=1, max_size=3, unique=True))
            marks = draw(st.lists(st.sampled_from(["", "?"]), min_size=len(choices), max_size=len(choices)))
            text.append(f"{{{name}:{'|'.join(map(''.join, zip(choices, marks, strict=True)))}}}")
            bindings[name] = draw(st.sampled_from(choices))
        else:
            text.append(f"{{={name}}}")
            names[name] = draw(st.sampled_from(["", "model.", "a+b", "(x)"]))
    return ".".join(text), bindings, names


# --- patterns -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Atom:
    """One axis."""

    name: str


@dataclass(frozen=True)
class Sum:
    """Unequal parts laid end to end, each a product."""

    terms: tuple[tuple[Factor, ...], ...]


Factor = Atom | Sum


def text_of(product: tuple[Factor, ...]) -> str:
    """A product in the notation of patterns."""
    return (
        " ".join(
            factor.name if isinstance(factor, Atom) else f"({' + '.join(map(text_of, factor.terms))})"
            for factor in product
        )
        or "1"
    )


def labels_along(product: tuple[Factor, ...], sizes: dict[str, int]) -> list[Label]:
    """What every element along an axis is, in order."""
    parts = []
    for factor in product:
        if isinstance(factor, Atom):
            parts.append([frozenset({(factor.name, n)}) for n in range(sizes[factor.name])])
        else:
            parts.append([label for term in factor.terms for label in labels_along(term, sizes)])
    return [frozenset().union(*combination) for combination in itertools.product(*parts)]


def labels(dims: list[tuple[Factor, ...]], sizes: dict[str, int]) -> list[Label]:
    """What every element of a tensor is, in C order."""
    return labels_along(tuple(factor for dim in dims for factor in dim), sizes)


@st.composite
def products(draw: st.DrawFn, names: Iterator[str], depth: int = 2, least: int = 0) -> tuple[Factor, ...]:
    """A product of atoms and, down to a depth, of sums."""
    factors: list[Factor] = [Atom(next(names)) for _ in range(draw(st.integers(least, 3 if depth == 2 else 2)))]
    if depth and draw(st.booleans()):
        first = draw(products(names, depth - 1))
        others = [draw(products(names, depth - 1, least=1)) for _ in range(draw(st.integers(1, 2)))]
        factors.append(Sum((first, *others)))
    return tuple(factors)


@st.composite
def arranged(draw: st.DrawFn, product: tuple[Factor, ...]) -> tuple[Factor, ...]:
    """The same product in another order throughout; sums are multiplied out now and then."""
    factors = [_arranged_factor(draw, factor) for factor in draw(st.permutations(product))]
    sums = [n for n, factor in enumerate(factors) if isinstance(factor, Sum)]
    if sums and len(factors) > 1 and draw(st.booleans()):
        at = draw(st.sampled_from(sums))
        rest = factors[:at] + factors[at + 1 :]
        return (Sum(tuple(tuple(draw(st.permutations([*rest, *term]))) for term in factors[at].terms)),)
    return tuple(factors)


def _arranged_factor(draw: st.DrawFn, factor: Factor) -> Factor:
    if isinstance(factor, Atom):
        return factor
    return Sum(tuple(draw(arranged(term)) for term in draw(st.permutations(factor.terms))))


@dataclass(frozen=True)
class Half:
    """One side of a generated rule: its pattern text, and the tensors that its key template stands for.

    ``leaves`` maps the key to the labels of its elements and its shape; ``fields`` is what the key
    template says after its prefix.
    """

    text: str
    fields: str
    leaves: dict[str, tuple[list[Label], tuple[int, ...]]]


@st.composite
def halves(
    draw: st.DrawFn, product: tuple[Factor, ...], sizes: dict[str, int], side: str, keyed: list[Atom] | None
) -> Half:
    """A random way to lay a product into keys and axes; ``keyed`` are the axes that may lie in keys."""
    factors = list(product)
    fields: list[str] = []
    stacked: list[Atom] = []
    branches: list[tuple[str, list[Factor]]] = [("", [])]
    if keyed:
        stacked = draw(st.lists(st.sampled_from(keyed), unique=True, max_size=2))
    sums = [factor for factor in factors if isinstance(factor, Sum)]
    if keyed is not None and sums and draw(st.booleans()):
        split = draw(st.sampled_from(sums))
        factors.remove(split)
        branches = [(f"{side}{n}", list(term)) for n, term in enumerate(split.terms)]
        fields.append(f"{{{side}_branch:{'|'.join(name for name, _ in branches)}}}")
    factors = [factor for factor in factors if factor not in stacked]
    fields += [f"{{{atom.name}}}" for atom in stacked]
    texts = []
    leaves: dict[str, tuple[list[Label], tuple[int, ...]]] = {}
    for branch, term in branches:
        dims = draw(_dims(draw(arranged(tuple(factors + term)))))
        shape = tuple(len(labels_along(dim, sizes)) for dim in dims)
        written = draw(st.permutations([*(atom.name for atom in stacked), None]))
        axes = " ".join(f"({text_of(dim)})" for dim in dims)
        text = " ".join(axes if part is None else part for part in written)
        texts.append(f"{branch}: {text}" if branch else text)
        for at in itertools.product(*(range(sizes[atom.name]) for atom in stacked)):
            here = frozenset((atom.name, n) for atom, n in zip(stacked, at, strict=True))
            key = ".".join(["", *([branch] if branch else []), *map(str, at)])
            leaves[key] = ([label | here for label in labels(dims, sizes)], shape)
    return Half(" | ".join(texts), "".join(f".{field}" for field in fields), leaves)


@st.composite
def _dims(draw: st.DrawFn, product: tuple[Factor, ...]) -> list[tuple[Factor, ...]]:
    cuts = sorted(draw(st.lists(st.integers(0, len(product)), max_size=3)))
    return [product[a:b] for a, b in itertools.pairwise([0, *cuts, len(product)])]


@dataclass(frozen=True)
class Case:
    """A generated rule between ``l<number>`` and ``r<number>``, with every size named."""

    left: Half
    right: Half
    sizes: dict[str, int] = field(hash=False)

    @property
    def pattern(self) -> str:
        """The whole pattern."""
        return f"{self.left.text} -> {self.right.text}"


@st.composite
def cases(draw: st.DrawFn, keyed: bool = True, sums: bool = True, smallest: int = 0) -> Case:
    """A pattern between two random layouts of one random product, of 600 elements at most."""
    names = (f"a{n}" for n in itertools.count())
    product = draw(products(names, depth=2 if sums else 0))
    atoms = sorted(_names(product))
    sizes = {name: draw(st.sampled_from([1, 2, 2, 3, 3, 4, 5, smallest])) for name in atoms}
    while math.prod(max(1, len(labels_along((factor,), sizes))) for factor in product) > 600:
        sizes = {name: max(1, size - 1) for name, size in sizes.items()}
    ours: list[list[Atom]] = [[], []]  # what lies in the keys of both sides would be a loop, not an axis
    for factor in product:
        if isinstance(factor, Atom) and sizes[factor.name]:
            draw(st.sampled_from(ours)).append(factor)
    left, right = ours if keyed else (None, None)
    return Case(
        draw(halves(product, sizes, "l", left)), draw(halves(product, sizes, "r", right)), dict(sorted(sizes.items()))
    )


def _names(product: tuple[Factor, ...]) -> set[str]:
    return {
        name
        for factor in product
        for name in ({factor.name} if isinstance(factor, Atom) else set().union(*map(_names, factor.terms)))
    }
