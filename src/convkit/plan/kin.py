"""Find leaves that aren't there though others of their kind are: by a mapping's parts, and by what is derived."""

from __future__ import annotations

import itertools
from collections import abc
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

from msgspec import Struct

from convkit.config.condition import Condition
from convkit.mapping import Derived, Mapping, Part
from convkit.mapping.keys import Bindings, KeyTemplate

Names = abc.Mapping[str, Any]

#: what stands in a missing leaf's name for a text that nothing shows
UNKNOWN = "*"


class Kin(Struct, frozen=True):
    """A leaf that isn't there, and why it ought to be."""

    key: str
    why: str


def missing_kin(mapping: Mapping, keys: abc.Collection[str], names: abc.Mapping[str, Any]) -> Iterator[Kin]:
    """Yield the leaves of the left side that aren't there, while others say that they must be."""
    for part in mapping.parts:
        if part.side == "left" and Condition.parse(part.when).holds(names):
            yield from _Kin(part, keys, names).missing()
    yield from _derived(mapping, keys, names)


class _Kin:
    """The leaves of one part, by what the placeholders of its forms stand for."""

    def __init__(self, part: Part, keys: abc.Collection[str], names: Names) -> None:
        self.part = part
        self.names = names
        self.forms = [KeyTemplate.parse(text) for text in part.keys]
        self.found = [list(form.matching(keys, names)) for form in self.forms]
        self.beside = KeyTemplate.parse(part.beside)
        self.others = list(self.beside.matching(keys, names)) if part.beside else []

    def missing(self) -> Iterator[Kin]:
        """Yield each that isn't there."""
        if not self.part.needed and not any(self.found):
            return
        for form, found in zip(self.forms, self.found, strict=True):
            shared = self._shared(form)
            all_of = {name: one for name, one in form.bound.items() if one.choices and not one.optional}
            choices = {name: one.choices for name, one in all_of.items() if name not in shared}
            there = {_at(bound, (*shared, *choices)) for _, bound in found}
            for anchor in dict.fromkeys(_at(bound, shared) for bound in self._anchors(form)):
                for cell in itertools.product(*choices.values()):
                    if (*anchor, *cell) not in there:
                        bound = dict(zip((*shared, *choices), (*anchor, *cell), strict=True))
                        yield self._absent(form, bound, found)
        if self.part.beside and not self.part.needed:
            yield from self._without_others()

    def _shared(self, form: KeyTemplate) -> tuple[str, ...]:
        """The placeholders whose values the part's other leaves, or those beside it, give."""
        if self.part.beside:
            return tuple(name for name in form.bound if name in self.beside.bound)
        numbers = [{name for name, one in one_of.bound.items() if not one.choices} for one_of in self.forms]
        return tuple(name for name in form.bound if all(name in own for own in numbers))

    def _anchors(self, form: KeyTemplate) -> list[Bindings]:
        """What the shared placeholders stand for."""
        if self.part.beside:
            return [bound for _, bound in self.others]
        anchors = [bound for found in self.found for _, bound in found]
        return anchors or [dict.fromkeys(self._shared(form), UNKNOWN)]

    def _without_others(self) -> Iterator[Kin]:
        """Yield the leaves beside which a part's leaves are there, and that aren't there themselves."""
        for form, found in zip(self.forms, self.found, strict=True):
            shared = self._shared(form)
            if set(self.beside.bound) <= set(shared):
                there = {_at(bound, shared) for _, bound in self.others}
                for key, bound in found:
                    if _at(bound, shared) not in there:
                        there.add(_at(bound, shared))
                        yield Kin(self.beside.format(bound, self.names), f"{key} is there ({self.part.what})")

    def _absent(self, form: KeyTemplate, bound: Bindings, found: list[tuple[str, Bindings]]) -> Kin:
        """The leaf that isn't there: of placeholders that nothing gives, with the values that its kin have."""
        usual: Bindings = {} if bound.keys() >= form.bound.keys() else self._usual(form, bound, found)
        key = form.format({**usual, **bound}, self.names)
        evidence = next((key for key, one in self._evidence() if _agree(one, bound)), None)
        return Kin(key, f"{evidence} is there ({self.part.what})" if evidence else self.part.what)

    def _usual(self, form: KeyTemplate, bound: Bindings, found: list[tuple[str, Bindings]]) -> Bindings:
        """What the placeholders stand for in the leaf that has most in common with one that isn't there."""
        kinds: dict[tuple[int | str, ...], Bindings] = {}  # of those that have equally much in common, the first
        for _, one in found:
            kinds.setdefault(_at(one, bound), one)
        unknown: Bindings = {name: one.choices[0] if one.choices else UNKNOWN for name, one in form.bound.items()}
        return min(kinds.values(), key=lambda one: _distance(one, bound), default=unknown)

    def _evidence(self) -> Iterator[tuple[str, Bindings]]:
        """The leaves that show that the part must be there."""
        if not self.part.needed:
            yield from itertools.chain(*self.found)
        yield from self.others


def _distance(one: Bindings, other: Bindings) -> tuple[int, int]:
    """How little two leaves have in common: the texts of their placeholders, component by component."""
    pairs = [_compared(str(one[name]), str(text)) for name, text in other.items()]
    return -sum(shared for shared, _ in pairs), sum(longer for _, longer in pairs)


@lru_cache(maxsize=4096)
def _compared(one: str, other: str) -> tuple[int, int]:
    """How many components two texts share at their beginning, and how many more one has than the other."""
    left, right = one.split("."), other.split(".")
    shared = sum(1 for _ in itertools.takewhile(lambda both: both[0] == both[1], zip(left, right, strict=False)))
    return shared, abs(len(left) - len(right))


def _agree(one: Bindings, other: Bindings) -> bool:
    """Whether the placeholders that two leaves share stand for the same."""
    return all(other.get(name, value) == value for name, value in one.items())


def _at(bound: Bindings, names: Iterable[str]) -> tuple[int | str, ...]:
    return tuple(bound[name] for name in names)


def _derived(mapping: Mapping, keys: abc.Collection[str], names: Names) -> Iterator[Kin]:
    """Yield the leaves of a family of derived ones, such as FP8's metas, if others of it are there.

    Rules with one condition are a family. A condition on variants that no key shows can't be judged: the leaves do it.
    """
    hidden = {variant.name for variant in mapping.variants if variant.side == "left" and not variant.probe}
    families: dict[str, list[Derived]] = {}
    for rule in mapping.rules:
        if isinstance(rule, Derived) and rule.side == "left" and rule.shape is not None and rule.of:
            condition = Condition.parse(rule.when)
            unjudged = bool(condition.parts) and all(part.name in hidden for part in condition.parts)
            if unjudged or condition.holds(names):
                families.setdefault(rule.when, []).append(rule)
    for rules in families.values():
        made = dict.fromkeys(key for rule in rules for key in _made(rule, keys, names))
        there = [key for key in made if key in keys]
        if there:
            yield from (Kin(key, f"{there[0]} is there") for key in made if key not in keys)


def _made(rule: Derived, keys: abc.Collection[str], names: Names) -> Iterator[str]:
    """The leaves that a rule makes beside those that are there."""
    form, beside = KeyTemplate.parse(rule.key), KeyTemplate.parse(rule.of[0])
    own = {name: one.choices for name, one in form.axes.items() if name not in beside.axes}
    for _, bound in beside.matching(keys, names):
        for cell in itertools.product(*own.values()):
            yield form.format({**bound, **dict(zip(own, cell, strict=True))}, names)
