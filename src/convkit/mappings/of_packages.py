"""The mappings of other packages: what is wrong with one is said where it may have been meant, and nowhere else.

They come through the entry point group ``convkit.mappings``: a ``Mapping`` each, or a sequence of them. A mapping that
is already there, or a layout that says otherwise than one of the same name, would change what others do: it is refused.
"""

from __future__ import annotations

from collections import abc
from dataclasses import dataclass
from typing import Any

from convkit.errors import ConvkitError
from convkit.mapping import Layout, Mapping
from convkit.plugins import Plugin, installed


@dataclass(frozen=True)
class Others:
    """The mappings that can be used, by name, each with who brings it, and what is wrong with the rest."""

    usable: dict[str, tuple[Mapping, Plugin]]
    problems: tuple[ConvkitError, ...]


def mappings_of_others(own: abc.Mapping[str, Mapping]) -> Others:
    """The mappings of other packages, beside convkit's ``own``."""
    found: list[tuple[Mapping, Plugin]] = []
    problems: list[ConvkitError] = []
    for plugin in installed("mappings"):
        try:
            found += [(mapping, plugin) for mapping in listed(plugin.value, plugin.load())]
        except ConvkitError as error:
            problems.append(error if error.problem.startswith(plugin.what) else plugin.unusable(error.problem))
    usable: dict[str, tuple[Mapping, Plugin]] = {}
    for mapping, plugin in found:
        rivals = [(other, str(whose)) for other, whose in found if other is not mapping]
        if why := _clash(mapping, [*((other, "convkit itself") for other in own.values()), *rivals]):
            problems.append(plugin.unusable(why))
        else:
            usable[mapping.name] = (mapping, plugin)
    return Others(usable, tuple(problems))


def listed(where: str, value: Any) -> tuple[Mapping, ...]:
    """The mappings that a module or an entry point declares.

    Raises:
        ConvkitError: it declares something else.
    """
    mappings = (value,) if isinstance(value, Mapping) else tuple(value) if isinstance(value, list | tuple) else (value,)
    if other := [one for one in mappings if not isinstance(one, Mapping)]:
        problem = f"{where} gives a {type(other[0]).__name__} where a mapping is expected"
        raise ConvkitError(problem, remedy="correct the module, or the entry point convkit.mappings")
    return mappings


def _clash(mapping: Mapping, rivals: abc.Iterable[tuple[Mapping, str]]) -> str:
    """Why a mapping can't stand beside others; empty if it can."""
    rivals = [*rivals]
    for other, whose in rivals:
        if {mapping.left.name, mapping.right.name} == {other.left.name, other.right.name}:
            return f"{whose} also declares the mapping {mapping.name}"
    for other, whose in rivals:
        for one in (mapping.left, mapping.right):
            if any(one.name == layout.name and not _same(one, layout) for layout in (other.left, other.right)):
                return f"its layout {one.name} isn't that of {whose}"
    return ""


def _same(one: Layout, other: Layout) -> bool:
    """Whether two declarations of a layout say the same, in all that they say."""
    return one == other and one.conventions == other.conventions and one.signature == other.signature
