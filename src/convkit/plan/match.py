"""Match a rule's templates with keys, and group the leaves by the placeholders of both sides.

A placeholder of both sides is a loop: each of its values is a group, from which a step is made. A placeholder of only
the left side numbers the leaves of a group. It runs over its names, over the numbers that a declared name lists,
over ``0 ... n-1`` where that name is a length, or otherwise as far as the keys go.
"""

from __future__ import annotations

import functools
import itertools
from collections import abc
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from msgspec import Struct

from convkit.errors import PlanError
from convkit.mapping import Rule
from convkit.mapping.keys import Bindings, KeyTemplate, Placeholder
from convkit.plan.names import Names

#: values that one placeholder may have: a config with more is wrong, and listing them would take all memory
MOST = 100_000
#: values of placeholders, as a key of a dict
Place = tuple[tuple[str, Any], ...]
#: the names of a leaf and of its copies, in the rule's order, by the values of all placeholders of the left
Found = dict[Place, tuple[list[str], list[str]]]


class Cell(Struct, frozen=True):
    """One leaf of a group: the values of the placeholders of only the left side, and its names.

    ``copies`` are the names of its independent copies.
    """

    at: Bindings
    keys: list[str]
    copies: list[str]


class Group(Struct, frozen=True, dict=True):
    """The leaves of one step, and the values of the placeholders of both sides."""

    bound: Bindings
    cells: list[Cell]

    @functools.cached_property
    def runs(self) -> dict[str, dict[int | str, int]]:
        """The values of each placeholder of only the left side, in order, with their places."""
        found: dict[str, dict[int | str, int]] = {}
        for cell in self.cells:
            for name, value in cell.at.items():
                run = found.setdefault(name, {})
                run.setdefault(value, len(run))
        return found


class Placeholders:
    """The placeholders of a rule, by side, and the values that declared names give them."""

    def __init__(self, rule: Rule, axes: abc.Mapping[str, str], names: Names) -> None:
        left, right = (KeyTemplate.parse(side[0]).bound for side in (rule.left, rule.right))
        self.shared = {name: placeholder for name, placeholder in left.items() if name in right}
        self.left = {name: placeholder for name, placeholder in left.items() if name not in right}
        self.right = {name: placeholder for name, placeholder in right.items() if name not in left}
        declared = {**axes, **dict(rule.sizes)}
        #: their declared lengths: numbers, or names
        self.declared = {name: declared[name] for name in left | right if name in declared}
        #: the numbers over which they run, if known
        self.numbers: dict[str, list[int]] = {}
        for name, size in self.declared.items():
            known = names.get(size) if isinstance(size, str) else size
            if isinstance(known, list | tuple):
                self.numbers[name] = _numbers(rule, name, known)
            elif isinstance(known, int):
                if known > MOST:
                    problem = f"is {known}: no checkpoint has more than {MOST} of them"
                    raise PlanError(problem, key=str(size), remedy="correct the config")
                self.numbers[name] = list(range(known))

    def lists(self, name: str, names: Names) -> bool:
        """Whether a declared name lists the numbers of a placeholder instead of giving its length."""
        size = self.declared.get(name)
        return isinstance(size, str) and isinstance(names.get(size), list | tuple)

    def run(self, name: str, placeholder: Placeholder, found: Iterable[Place]) -> list[Any]:
        """The values of a placeholder."""
        if placeholder.choices:
            return list(placeholder.choices)
        if name in self.numbers:
            return list(self.numbers[name])
        seen = [value for place in found for key, value in place if key == name]
        return list(range(max(seen, default=-1) + 1))


def match(rule: Rule, places: Placeholders, keys: Iterable[str], names: Names) -> list[Group]:
    """The groups of a rule's leaves among the keys of a checkpoint.

    Raises:
        PlanError: leaves are missing.
    """
    found = _found(rule, list(keys), names)
    wild = [name for name, placeholder in places.shared.items() if placeholder.wild]
    parts: dict[Place, Found] = {} if wild else {(): found}
    for place, leaf in found.items() if wild else ():
        parts.setdefault(tuple(pair for pair in place if pair[0] in wild), {})[place] = leaf
    groups = [group for text, part in parts.items() for group in _groups(rule, places, dict(text), part, names)]
    if not groups and not rule.optional and [] not in places.numbers.values():
        raise _missing(rule, list(_every_key(rule, places, found, names)))
    return groups


def _found(rule: Rule, keys: list[str], names: Names) -> Found:
    found: Found = {}
    for number, template in enumerate(map(KeyTemplate.parse, rule.left + rule.left_copies)):
        for key, bound in template.matching(keys, names):
            own, copies = found.setdefault(tuple(sorted(bound.items())), ([], []))
            # if no other name is there, the first copy is the leaf
            (own if number < len(rule.left) or not own else copies).append(key)
    return found


def _groups(rule: Rule, places: Placeholders, text: Bindings, found: Found, names: Names) -> Iterator[Group]:
    """Yield the groups of one part of the keys; ``text`` holds the values of wild placeholders in it."""
    if not found:
        return
    ats = _products(places, places.left, found)

    def cells(bound: Bindings) -> list[Cell]:
        return [Cell(at, *found.get(tuple(sorted({**bound, **at}.items())), ([], []))) for at in ats]

    runs = {name: places.run(name, one, found) for name, one in places.shared.items() if not one.wild}
    own = {tuple(sorted(at.items())) for at in ats}
    there: dict[tuple[Any, ...], None] = {}
    for place in found:
        if tuple(pair for pair in place if pair[0] in places.left) in own:
            bound = dict(place)
            there[tuple(bound[name] for name in runs)] = None
    present = [Group(text | bound, cells(text | bound)) for bound in _in_order(runs, there)]
    if present:
        others = [text | bound for bound in _others(rule, places, runs, there)]
        _check_complete(rule, places, present, others=others, cells=cells, names=names)
    yield from present


def _in_order(runs: abc.Mapping[str, list[Any]], chosen: Iterable[tuple[Any, ...]]) -> list[Bindings]:
    """The combinations among some that the placeholders' values make, in their order."""
    orders = [{value: number for number, value in enumerate(run)} for run in runs.values()]
    placed = [
        (tuple(order[value] for order, value in zip(orders, values, strict=True)), values)
        for values in chosen
        if all(value in order for order, value in zip(orders, values, strict=True))
    ]
    return [dict(zip(runs, values, strict=True)) for _, values in sorted(placed, key=lambda one: one[0])]


def _others(
    rule: Rule, places: Placeholders, runs: abc.Mapping[str, list[Any]], there: abc.Collection[tuple[Any, ...]]
) -> list[Bindings]:
    """The combinations that aren't there; of an optional rule, which may have very many, those that may be missing."""
    if not rule.optional:
        wanted = dict.fromkeys(itertools.product(*runs.values()))
    else:  # which have the same choices as one that is there
        named = [bool(places.shared[name].choices) for name in runs]
        wanted = {}
        for values in there:
            kin = ([value] if choice else run for value, choice, run in zip(values, named, runs.values(), strict=True))
            wanted |= dict.fromkeys(itertools.product(*kin))
    return _in_order(runs, (values for values in wanted if values not in there))


def _products(places: Placeholders, which: abc.Mapping[str, Placeholder], found: Found) -> list[Bindings]:
    """List every combination of the values of some placeholders, without the wild ones."""
    runs = {name: places.run(name, one, found) for name, one in which.items() if not one.wild}
    return [dict(zip(runs, values, strict=True)) for values in itertools.product(*runs.values())]


def _check_complete(
    rule: Rule,
    places: Placeholders,
    present: list[Group],
    *,
    others: list[Bindings],
    cells: Callable[[Bindings], list[Cell]],
    names: Names,
) -> None:
    """Refuse missing leaves within a group, and missing groups unless that choice is optional throughout."""
    choices = [name for name, placeholder in places.shared.items() if placeholder.choices]
    alike = {tuple(group.bound[name] for name in choices) for group in present}
    absent = [(group.bound, cell) for group in present for cell in group.cells if not cell.keys]
    for bound in others:
        optional = rule.optional or any(bound[name] in one.optional for name, one in places.shared.items())
        if not optional or tuple(bound[name] for name in choices) in alike:
            absent += [(bound, cell) for cell in cells(bound)]
    if absent:
        template = KeyTemplate.parse(rule.left[0])
        keys = [template.format({**bound, **cell.at}, names) for bound, cell in absent]
        kin = [group for group in present if all(group.bound[name] == absent[0][0][name] for name in choices)]
        raise _missing(rule, keys, next(key for group in kin + present for cell in group.cells for key in cell.keys))


def _every_key(rule: Rule, places: Placeholders, found: Found, names: Names) -> Iterator[str]:
    """Yield the keys that a rule could match, as far as they are known."""
    template = KeyTemplate.parse(rule.left[0])
    if not any(placeholder.wild for placeholder in places.shared.values()):
        for bound in _products(places, places.shared, found):
            for cell in _products(places, places.left, found):
                yield template.format({**bound, **cell}, names)


class MissingError(PlanError):
    """Leaves of a rule aren't there.

    Attributes:
        keys: their names, as far as they are known.
    """

    keys: tuple[str, ...] = ()


def _missing(rule: Rule, keys: list[str], there: str = "") -> MissingError:
    more = f" (and {len(keys) - 1} more)" if len(keys) > 1 else ""
    because = f", though {there} is there" if there else "" if keys else f": rule {rule} needs it"
    error = MissingError(
        f"is missing{more}{because}",
        key=keys[0] if keys else rule.left[0],
        remedy="the checkpoint is incomplete, or isn't of the named layout",
    )
    error.keys = tuple(keys)
    return error


def _numbers(rule: Rule, name: str, listed: abc.Sequence[Any]) -> list[int]:
    whole = [n for n in listed if isinstance(n, int) and not isinstance(n, bool) and n >= 0]
    if len(whole) < len(listed) or len(set(whole)) < len(whole):
        raise PlanError(
            f"rule {rule}: '{{{name}}}' can't run over {list(listed)}: these aren't different whole numbers",
            remedy="correct the config",
        )
    return whole
