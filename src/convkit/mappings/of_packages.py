"""The mappings of other packages: what is wrong with one is said where it may have been meant, and nowhere else.

They come through the entry point group ``convkit.mappings``: a ``Mapping`` each, or a sequence of them. A mapping that
is already there, or a layout that says otherwise than one of the same name, would change what others do: it is refused.
"""

from __future__ import annotations

from collections import abc

from msgspec import Struct

from convkit.errors import ConvkitError
from convkit.mapping import Layout, Mapping
from convkit.mappings.modules import listed
from convkit.plugins import Plugin, installed


class Others(Struct, frozen=True):
    """The mappings that can be used, by name, each with who brings it, and what is wrong with the rest."""

    usable: dict[str, tuple[Mapping, Plugin]]
    problems: tuple[ConvkitError, ...]


def mappings_of_others(own: abc.Iterable[tuple[Layout, Layout]]) -> Others:
    """The mappings of other packages, beside convkit's own, which join these layouts."""
    found: list[tuple[Mapping, Plugin]] = []
    problems: list[ConvkitError] = []
    for plugin in installed("mappings"):
        try:
            found += [(mapping, plugin) for mapping in listed(plugin.value, plugin.load())]
        except ConvkitError as error:
            problems.append(error if error.problem.startswith(plugin.what) else plugin.unusable(error.problem))
    ours = [(left, right, "convkit itself") for left, right in own]
    usable: dict[str, tuple[Mapping, Plugin]] = {}
    for mapping, plugin in found:
        rivals = [(other.left, other.right, str(whose)) for other, whose in found if other is not mapping]
        if why := _clash(mapping, [*ours, *rivals]):
            problems.append(plugin.unusable(why))
        else:
            usable[mapping.name] = (mapping, plugin)
    return Others(usable, tuple(problems))


def _clash(mapping: Mapping, rivals: abc.Collection[tuple[Layout, Layout, str]]) -> str:
    """Why a mapping can't stand beside others, which join these layouts; empty if it can."""
    for left, right, whose in rivals:
        if {mapping.left.name, mapping.right.name} == {left.name, right.name}:
            return f"{whose} also declares the mapping {mapping.name}"
    for left, right, whose in rivals:
        for one in (mapping.left, mapping.right):
            if any(one.name == layout.name and not _same(one, layout) for layout in (left, right)):
                return f"its layout {one.name} isn't that of {whose}"
    return ""


def _same(one: Layout, other: Layout) -> bool:
    """Whether two declarations of a layout say the same, in all that they say."""
    return one == other and one.conventions == other.conventions and one.signature == other.signature
