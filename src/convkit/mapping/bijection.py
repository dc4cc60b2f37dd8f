"""A rule must be a bijection before it has met a checkpoint."""

from __future__ import annotations

from collections import abc
from collections.abc import Iterable
from itertools import pairwise
from typing import TYPE_CHECKING

from convkit.mapping.keys import KeyTemplate, Placeholder
from convkit.mapping.ops import Pad
from convkit.mapping.pattern import Pattern, PatternError, Side
from convkit.mapping.sizes import monomials

if TYPE_CHECKING:
    from convkit.mapping.rules import Rule


def check(rule: Rule) -> None:
    """A rule must be a bijection before it has met a checkpoint.

    Raises:
        PatternError: a placeholder without a place on the other side, pieces that differ, an op that can't be undone.
    """
    try:
        axes = {"left": _axes(rule.left), "right": _axes(rule.right)}
        shared = {name: field for name, field in axes["left"].items() if name in axes["right"]}
        if any(axes["right"][name] != field for name, field in shared.items()):
            raise PatternError("a placeholder of both sides must have the same choices on both")
        _check_ops(rule, one_leaf=axes["left"].keys() == axes["right"].keys())
        _check_branches(rule, shared)
        sized = axes["left"].keys() | axes["right"].keys()
        for branch, text in rule.pattern:
            pattern = Pattern.parse(text)
            pieces: dict[str, list[list[str]]] = {}
            for side, own in (("left", pattern.left), ("right", pattern.right)):
                single = [field for name, field in axes[side].items() if name not in shared]
                pieces[side] = sorted(sorted(piece) for piece in _pieces(own, single))
                if any(a == b for a, b in pairwise(pieces[side])):
                    raise PatternError(f"'{text}' names one piece twice on the {side}")
                if loops := shared.keys() & {name for piece in pieces[side] for name in piece}:
                    raise PatternError(f"'{{{min(loops)}}}' stands in the keys of both sides, so it is no axis")
            sized |= {name for piece in pieces["left"] for name in piece}
            if pieces["left"] != pieces["right"]:
                where = f" ({branch})" if branch else ""
                shown = [
                    f"{side} has {', '.join('·'.join(piece) or '1' for piece in found)}"
                    for side, found in pieces.items()
                ]
                raise PatternError(f"'{text}'{where} is not a bijection: {'; '.join(shown)}")
        if other := dict(rule.sizes).keys() - sized:
            raise PatternError(f"'{min(other)}' is the size of nothing")
    except PatternError as error:
        raise PatternError(f"rule {rule}: {error}") from None


def _axes(templates: tuple[str, ...]) -> abc.Mapping[str, Placeholder]:
    first, *others = [KeyTemplate.parse(text) for text in templates]
    if any(other.axes != first.axes for other in others):
        raise PatternError("names of one leaf must have the same placeholders")
    if any(field.wild for template in (first, *others) for field in template.placeholders.values()):
        raise PatternError("'{...:*}' says nothing of the other side's name")
    return first.axes


def _check_branches(rule: Rule, shared: abc.Mapping[str, Placeholder]) -> None:
    """Patterns by branch must cover the choices of one shared placeholder."""
    named = {name for names, _ in rule.pattern for name in names.split("|")}
    if named != {""} and not any(named == set(field.choices) for field in shared.values()):
        raise PatternError(f"the patterns' branches {', '.join(sorted(named))} are not the choices of a placeholder")


def _check_ops(rule: Rule, one_leaf: bool) -> None:
    """What is padded must be found again as the fill, so arithmetic has no place beside it."""
    pads = [op for op in rule.ops if isinstance(op, Pad)]
    if pads and len(rule.ops) > 1:
        raise PatternError("a rule that pads can't pad twice, shift or scale")
    if pads and not one_leaf:
        raise PatternError("a rule that pads carries one leaf into one")


def _pieces(side: Side, single: list[Placeholder]) -> Iterable[frozenset[str]]:
    """The pieces of one side over all branches of the placeholders that only it has."""
    labels: list[dict[str, int | str]] = [{}]
    for field_ in single:
        if side.stacks(field_.name):
            continue
        if not field_.choices:
            raise PatternError(f"'{{{field_.name}}}' stands on one side and isn't an axis of the other")
        labels = [label | {field_.name: choice} for label in labels for choice in field_.choices]
    for label in labels:
        yield from monomials(side.axes(label).with_ellipsis(1))
