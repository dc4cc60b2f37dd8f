"""Mappings as values: the rules between two layouts, and what can be done with them.

:func:`inverse` reverses a mapping, :func:`under` moves it below a prefix,
:func:`convkit.mapping.components.pack` puts several into one checkpoint, :func:`for_slots` extends it to an
optimizer's moments, :func:`compose` chains two. A family's file in ``convkit.mappings`` is a table of
such rules.
"""

from __future__ import annotations

from collections import abc
from collections.abc import Iterable
from functools import cached_property
from typing import overload

from msgspec import Struct
from msgspec.structs import replace

from convkit.config import ConfigTable
from convkit.errors import ConvkitError
from convkit.mapping.declaration import Which
from convkit.mapping.layout import Fact, Layout, Measure, Variant
from convkit.mapping.ops import Pad, Shift
from convkit.mapping.parts import Part
from convkit.mapping.rules import AnyRule, Folded, Rule


class Mapping(Struct, frozen=True, dict=True):
    """A pair of layouts and the rules between them.

    ``axes`` gives the declared name that is the length of an integer placeholder (``i`` -> ``layers``), so that a
    missing layer is noticed. The name may also stand for a list of numbers: the layers that the rules describe.
    ``parts`` say which leaves must be there together, where rules leave that open. ``recalled`` are declared names that
    neither side shows: the table of one direction declares them, and the way back has them from the receipt.
    """

    left: Layout
    right: Layout
    rules: tuple[AnyRule, ...]
    config: ConfigTable = ConfigTable()
    variants: tuple[Variant, ...] = ()
    facts: tuple[Fact, ...] = ()
    measures: tuple[Measure, ...] = ()
    axes: abc.Mapping[str, str] = {}
    parts: tuple[Part, ...] = ()
    recalled: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """``hf/llama <-> cerebras/llama``."""
        return f"{self.left.name} <-> {self.right.name}"

    def forms(self, side: Which) -> tuple[str, ...]:
        """The forms of the keys that its rules rearrange, as a side has them."""
        rules = (rule for rule in self.rules if isinstance(rule, Rule))
        return tuple(
            dict.fromkeys(text for one in rules for text in getattr(one, side) + getattr(one, f"{side}_copies"))
        )

    @cached_property
    def _inverse(self) -> Mapping:
        return Mapping(
            left=self.right,
            right=self.left,
            rules=tuple(rule.inverse() for rule in self.rules),
            config=self.config.inverse(),
            variants=tuple(variant.inverse() for variant in self.variants),
            facts=tuple(fact.inverse() for fact in self.facts),
            measures=tuple(measure.inverse() for measure in self.measures),
            axes=self.axes,
            parts=tuple(part.inverse() for part in self.parts),
            recalled=self.recalled,
        )

    def __hash__(self) -> int:
        return hash(self.name)  # dicts have no hash


class Chain(Struct, frozen=True):
    """Mappings one after another: each starts where the one before ends."""

    links: tuple[Mapping, ...]

    @property
    def left(self) -> Layout:
        """The layout at which the chain starts."""
        return self.links[0].left

    @property
    def right(self) -> Layout:
        """The layout at which the chain ends."""
        return self.links[-1].right

    @property
    def name(self) -> str:
        """``t5x/t5 <-> te/t5 <-> t5x/t5``."""
        return " <-> ".join([self.left.name, *(link.right.name for link in self.links)])

    def inverse(self) -> Chain:
        """The same chain from right to left."""
        return Chain(tuple(inverse(mapping) for mapping in reversed(self.links)))


def inverse(mapping: Mapping) -> Mapping:
    """The mapping from right to left; ``inverse(inverse(m)) == m``."""
    return mapping._inverse


@overload
def under(left: str, right: str, rules: Mapping) -> Mapping: ...
@overload
def under(left: str, right: str, rules: Iterable[AnyRule]) -> tuple[AnyRule, ...]: ...
def under(left: str, right: str, rules: Mapping | Iterable[AnyRule]) -> Mapping | tuple[AnyRule, ...]:
    """Move rules, or a whole mapping, below a prefix on each side, so that a layer's rules are written once.

    The prefixes are templates: ``"{=cs}"`` is the value of a declared name, for example of a variant.
    """
    if not isinstance(rules, Mapping):
        return tuple(rule.under(left, right) for rule in rules)
    return replace(
        rules,
        rules=under(left, right, rules.rules),
        variants=tuple(variant.under(left, right) for variant in rules.variants),
        facts=tuple(fact.under(left, right) for fact in rules.facts),
        measures=tuple(measure.under(left, right) for measure in rules.measures),
        parts=tuple(part.under(left, right) for part in rules.parts),
    )


@overload
def for_slots(rules: Mapping, slots: Iterable[str], left: str, right: str, *, optional: bool = False) -> Mapping: ...
@overload
def for_slots(
    rules: Iterable[AnyRule], slots: Iterable[str], left: str, right: str, *, optional: bool = False
) -> tuple[Rule, ...]: ...
def for_slots(
    rules: Mapping | Iterable[AnyRule], slots: Iterable[str], left: str, right: str, *, optional: bool = False
) -> Mapping | tuple[Rule, ...]:
    """Make the rules of an optimizer's moments from those of its parameters, or extend a mapping by them.

    ``left`` and ``right`` are prefixes with a placeholder ``{slot}``, which runs over ``slots``. A shift does not
    apply to moments. With ``optional``, the moments may be absent.

    Raises:
        ConvkitError: a rule scales its tensor, so its moments would have to be rescaled too.
    """
    axis = "{slot:" + "|".join(slots) + "}"
    found = []
    for rule in rules.rules if isinstance(rules, Mapping) else rules:
        if isinstance(rule, Folded):
            raise _scaled(rule)
        if isinstance(rule, Rule):
            ops = tuple(op for op in rule.ops if not isinstance(op, Shift))
            if any(not isinstance(op, Pad) for op in ops):
                raise _scaled(rule)
            moments = rule.changed(ops=ops, optional=optional or rule.optional)
            found.append(moments.under(left.replace("{slot}", axis), right.replace("{slot}", axis)))
    return replace(rules, rules=(*rules.rules, *found)) if isinstance(rules, Mapping) else tuple(found)


def _scaled(rule: AnyRule) -> ConvkitError:
    remedy = "convert the weights alone"
    return ConvkitError(f"rule {rule}: the moments of a scaled tensor can't follow it", remedy=remedy)


def compose(first: Mapping | Chain, second: Mapping | Chain) -> Chain:
    """Chain two mappings, from ``first``'s left layout to ``second``'s right (:mod:`convkit.execute.chain` runs it).

    Raises:
        ConvkitError: they don't meet in one layout.
    """
    before, after = [side.links if isinstance(side, Chain) else (side,) for side in (first, second)]
    middle, start = before[-1].right.name, after[0].left.name
    if middle != start:
        raise ConvkitError(f"{middle} and {start} are different layouts", remedy="chain mappings that meet")
    return Chain(before + after)
