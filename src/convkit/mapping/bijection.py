"""Check that a rule is a bijection, before it meets a checkpoint.

>>> check(("a.{n:q|k}",), ("b",), (("", "{n} d -> (q + k) d"),), (), {"q": "heads"})
>>> check(("a",), ("b",), (("", "x y -> x"),), (), {})
Traceback (most recent call last):
    ...
convkit.mapping.pattern.PatternError: 'x y -> x' is not a bijection: left has x·y; right has x
"""

from __future__ import annotations

from collections import abc
from collections.abc import Iterable
from functools import cache
from itertools import pairwise

from msgspec.structs import replace

from convkit.mapping.keys import KeyTemplate, Placeholder
from convkit.mapping.ops import Elementwise, Pad
from convkit.mapping.pattern import Pattern, PatternError, Side
from convkit.mapping.sizes import monomials

Placeholders = abc.Mapping[str, Placeholder]


def check(
    left: tuple[str, ...],
    right: tuple[str, ...],
    patterns: Iterable[tuple[str, str]],
    ops: tuple[Elementwise | Pad, ...],
    sizes: abc.Mapping[str, int | str],
) -> None:
    """Check that both sides of a rule have the same pieces, each once.

    Args:
        left: key templates of the left side, all of them names of one leaf.
        right: key templates of the right side.
        patterns: patterns by the branches to which they apply ("" for all).
        ops: ops that follow the rearrangement.
        sizes: the declared sizes, by atom.

    Raises:
        PatternError: a placeholder is missing on the other side, pieces differ, or an op can't be undone.
    """
    named = tuple(_axes(side).values() for side in (left, right))
    _check(tuple(named[0]), tuple(named[1]), tuple(patterns), ops, tuple(sorted(sizes.items())))


@cache
def _check(
    left: tuple[Placeholder, ...],
    right: tuple[Placeholder, ...],
    patterns: tuple[tuple[str, str], ...],
    ops: tuple[Elementwise | Pad, ...],
    sizes: tuple[tuple[str, int | str], ...],
) -> None:
    """See :func:`check`; of keys only the placeholders matter, so that many rules are checked at once."""
    axes = {side: {field.name: field for field in own} for side, own in (("left", left), ("right", right))}
    shared = {name: field for name, field in axes["left"].items() if name in axes["right"]}
    if any(replace(axes["right"][name], step=field.step) != field for name, field in shared.items()):
        raise PatternError("a placeholder on both sides must have the same choices on both")
    if any(field.wild for side in axes.values() for name, field in side.items() if name not in shared):
        raise PatternError("'{...:*}' doesn't determine the name on the other side")
    _check_ops(ops, one_leaf=axes["left"].keys() == axes["right"].keys())
    _check_branches({name for names, _ in patterns for name in names.split("|")}, shared)
    sized = {name for side in axes.values() for name, field in side.items() if not field.wild}
    for branch, text in patterns:
        sized |= _check_pieces(Pattern.parse(text), branch, axes, shared)
    if other := dict(sizes).keys() - sized:
        raise PatternError(f"'{min(other)}' is given a size, but isn't part of the pattern")


def _check_pieces(
    pattern: Pattern, branch: str, axes: abc.Mapping[str, Placeholders], shared: Placeholders
) -> set[str]:
    """Check that both sides of a pattern have the same pieces; return its atoms."""
    pieces: dict[str, list[list[str]]] = {}
    for side, own in (("left", pattern.left), ("right", pattern.right)):
        single = [field for name, field in axes[side].items() if name not in shared]
        pieces[side] = sorted(sorted(piece) for piece in _pieces(own, single))
        if any(a == b for a, b in pairwise(pieces[side])):
            raise PatternError(f"'{pattern}' has the same piece twice on the {side}")
        if loops := shared.keys() & {name for piece in pieces[side] for name in piece}:
            raise PatternError(f"'{{{min(loops)}}}' stands in the keys of both sides, so it isn't an axis")
    if pieces["left"] != pieces["right"]:
        where = f" ({branch})" if branch else ""
        shown = [f"{side} has {', '.join('·'.join(piece) or '1' for piece in found)}" for side, found in pieces.items()]
        raise PatternError(f"'{pattern}'{where} is not a bijection: {'; '.join(shown)}")
    return {name for piece in pieces["left"] for name in piece}


def _axes(templates: tuple[str, ...]) -> Placeholders:
    first, *others = [KeyTemplate.parse(text) for text in templates]
    if any(other.bound != first.bound for other in others):
        raise PatternError("names of one leaf must have the same placeholders")
    return first.bound


def _check_branches(named: set[str], shared: Placeholders) -> None:
    """Check that patterns by branch cover the choices of one shared placeholder."""
    if named != {""} and not any(named == set(field.choices) for field in shared.values()):
        raise PatternError(f"the patterns' branches {', '.join(sorted(named))} are not the choices of a placeholder")


def _check_ops(ops: tuple[Elementwise | Pad, ...], one_leaf: bool) -> None:
    """Check the ops: padding must be recognisable as the fill, so it excludes arithmetic."""
    pads = [op for op in ops if isinstance(op, Pad)]
    if pads and len(ops) > 1:
        raise PatternError("a rule that pads can't pad twice, shift or scale")
    if pads and not one_leaf:
        raise PatternError("a rule that pads carries one leaf into one")


def _pieces(side: Side, single: list[Placeholder]) -> Iterable[frozenset[str]]:
    """Yield the pieces of one side, over all branches of the placeholders that only this side has."""
    labels: list[dict[str, int | str]] = [{}]
    for field_ in single:
        if side.stacks(field_.name):
            continue
        if not field_.choices:
            raise PatternError(f"'{{{field_.name}}}' stands on one side and isn't an axis of the other")
        labels = [label | {field_.name: choice} for label in labels for choice in field_.choices]
    for label in labels:
        yield from monomials(side.axes(label).with_ellipsis(1))
