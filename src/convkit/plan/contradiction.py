"""Say which field of a config contradicts the tensors: a size, or the number of layers."""

from __future__ import annotations

from collections import abc
from collections.abc import Iterator
from typing import Any

from msgspec import Struct

from convkit.config import Converted
from convkit.config.condition import Condition
from convkit.config.values import shown
from convkit.errors import ContradictionError, PlanError
from convkit.mapping import Mapping, Rule
from convkit.mapping.keys import KeyTemplate
from convkit.plan.names import Known


class LengthError(PlanError):
    """An axis has another length than declared names give it.

    Attributes:
        sizes: those names.
        found: the leaf, with the length that it has.
    """

    def __init__(self, problem: str, *, sizes: tuple[str, ...] = (), found: str = "", **more: Any) -> None:
        super().__init__(problem, **more)
        self.sizes = sizes
        self.found = found


def explained(error: PlanError, mapping: Mapping, keys: abc.Iterable[str], known: Known) -> PlanError:
    """The error that names the field, if it is a field of the config that contradicts the tensors.

    A number of layers is compared first: where it is wrong, other errors only follow from it.
    """
    said = _Said(known.converted)
    for name, count, last in _counted(mapping, list(keys), known):
        stated = known.names[name]
        if count != stated:
            remedy = "complete the checkpoint" if count < stated else "leave out what it doesn't count: --drop"
            return ContradictionError(
                f"is {said.value(name)}, but the checkpoint has {count}, up to {last}",
                key=said.field(name),
                remedy=f"correct the config, or {remedy}",
            )
    stating = [name for name in getattr(error, "sizes", ()) if name in said.converted.origins]
    if not stating or not isinstance(error, LengthError):
        return error
    first, *others = stating
    beside = "".join(f" and {said.field(name)} is {said.value(name)}" for name in others)
    return ContradictionError(
        f"is {said.value(first)}{beside}, but {error.found}",
        key=said.field(first),
        remedy="correct the config, or name the config of this checkpoint: --config",
    )


class _Said(Struct, frozen=True):
    """What a config says of declared names."""

    converted: Converted

    def field(self, name: str) -> str:
        """The field that states a name."""
        return self.converted.origins[name][0]

    def value(self, name: str) -> str:
        """The value that stands there, and whether the config leaves it out."""
        field, value = self.converted.origins[name]
        by_default = any(entry["name"] == field for entry in self.converted.defaults)
        return f"{shown(value)}{' by default' if by_default else ''}"


def _counted(mapping: Mapping, keys: list[str], known: Known) -> Iterator[tuple[str, int, str]]:
    """Each number of layers, or of whatever else is numbered in keys, that the config states: its declared name, the
    number that the keys show, and one of the last keys.
    """
    stated = {name for name in known.converted.origins if type(known.names[name]) is int}
    last: dict[str, tuple[int, str]] = {}
    for rule in mapping.rules:
        if isinstance(rule, Rule) and not rule.optional and Condition.parse(rule.when).holds(known.names):
            sizes = {**mapping.axes, **dict(rule.sizes)}
            for template in map(KeyTemplate.parse, rule.left):
                counted = {place: name for place in template.bound if (name := sizes.get(place)) in stated}
                for key in keys if counted else ():
                    for place, number in (template.match(key, known.names) or {}).items():
                        if place in counted and isinstance(number, int):
                            name = str(counted[place])
                            last[name] = max(last.get(name, (0, "")), (number + 1, key))
    yield from ((name, *found) for name, found in last.items())
