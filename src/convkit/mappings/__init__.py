"""The mappings, one file per model family: declarations only.

A new family is a new module in one of the packages here, with a ``MAPPING``, or with a sequence of them called
``MAPPINGS``; nothing else changes. Other packages add theirs by entry points (:mod:`.of_packages`). A module here with
``UPGRADES`` says how layouts come from release to release. What all of them declare is known without importing them
(:mod:`.catalogue`); a module is imported for its mappings.
"""

from __future__ import annotations

from collections import abc
from functools import cache
from typing import Any

from convkit.config import Classes, ConfigTable, Field
from convkit.config.classes import Release
from convkit.errors import ConvkitError, UsageError, meant
from convkit.mapping import Layout, Mapping, Rescaling, Upgrades, Verbatim, at_release, inverse, split_name
from convkit.mappings.catalogue import Catalogue, Entry, catalogue_of
from convkit.mappings.modules import declared, module
from convkit.mappings.of_packages import Others, mappings_of_others
from convkit.plugins import Plugin

__all__ = [
    "all_mappings",
    "brought",
    "brought_by",
    "check_release",
    "ends",
    "find_mapping",
    "get_layout",
    "in_todays_words",
    "layouts",
    "look_again",
    "mappings_of",
    "naming",
    "own_layouts",
    "own_side",
    "problems",
    "releases_of",
    "remedy",
    "rescaled",
    "unchanged",
    "upgrade",
]


def all_mappings() -> tuple[Mapping, ...]:
    """Every mapping, in name order; those of other packages that can't be used are left out.

    Raises:
        ConvkitError: a module here can't be imported, or two declare one mapping.
    """
    return tuple(_mapping(*joined) for joined in ends())


def mappings_of(layout: str) -> tuple[Mapping, ...]:
    """The mappings that have a layout on one side, in name order."""
    return tuple(_mapping(*joined) for joined in ends() if layout in joined)


def naming(layout: str) -> Mapping | None:
    """The mapping that has the most forms of a layout's keys, and the fewest rules beside; None if no mapping has it.

    >>> naming("hf/llama").name
    'hf/llama <-> cerebras/llama'
    """
    joined = [one for one in ends() if layout in one]
    return _mapping(*max(joined, key=lambda one: _names(one, layout))) if joined else None


@cache
def ends() -> tuple[tuple[str, str], ...]:
    """The layouts that each mapping joins, left and right, in the order of the mappings' names."""
    others = {name: (one.left.name, one.right.name) for name, (one, _) in _others().usable.items()}
    joined = {name: (entry.left, entry.right) for name, entry in _own().mappings.items()} | others
    return tuple(joined[name] for name in sorted(joined))


def look_again() -> None:
    """Forget what is installed: for packages that come or go while a process runs."""
    for known in (ends, layouts, _own, _others, _mapping):
        known.cache_clear()


def own_layouts() -> dict[str, Layout]:
    """The layouts that convkit itself declares, by name."""
    return _own().layouts


def own_side(name: str) -> tuple[Layout, Classes]:
    """A layout of convkit's own, and its config classes: one side of a mapping in another package.

    >>> own_side("hf/llama")[0].config_file
    'config.json'

    Raises:
        UsageError: convkit has no such layout.
    """
    for entry in _own().mappings.values():
        if name in (entry.left, entry.right):
            mapping = _mapping(entry.left, entry.right)
            left = name == entry.left
            return (mapping.left, mapping.config.left) if left else (mapping.right, mapping.config.right)
    raise UsageError(f"no layout is called {name!r}", remedy="see convkit list layouts")


def brought_by(mapping: Mapping) -> Plugin | None:
    """Who brings a mapping, turned either way; None for convkit's own, and for one that nobody has installed."""
    usable = _others().usable.values()
    return next((plugin for one, plugin in usable if mapping in (one, inverse(one))), None)


def brought() -> dict[str, Plugin]:
    """The packages that bring mappings, by the names of these."""
    return {name: plugin for name, (_, plugin) in _others().usable.items()}


def problems() -> tuple[ConvkitError, ...]:
    """What is wrong with the mappings of other packages that can't be used."""
    return _others().problems


def remedy(text: str) -> str:
    """A remedy, to which the mappings are added that can't be used: one of them may be what was meant."""
    return "; ".join([text, *(error.problem for error in problems())])


@cache
def _own() -> Catalogue:
    """What the modules here declare."""
    return catalogue_of(__name__, __path__)


@cache
def _others() -> Others:
    own = _own()
    return mappings_of_others((own.layouts[entry.left], own.layouts[entry.right]) for entry in own.mappings.values())


@cache
def _mapping(left: str, right: str) -> Mapping:
    """The mapping that is declared between two layouts, of which it is one of :func:`ends`."""
    name = f"{left} <-> {right}"
    if (entry := _own().mappings.get(name)) is None:
        return _others().usable[name][0]
    return next(mapping for mapping in declared(entry.module) if mapping.name == name)


def _names(joined: tuple[str, str], layout: str) -> tuple[int, int]:
    """How many forms of a layout's keys the mapping has that joins two layouts; the more rules it has, the less."""
    name = " <-> ".join(joined)
    entry = _own().mappings.get(name) or Entry.of(_others().usable[name][0], "")
    return entry.left_forms if layout == entry.left else entry.right_forms, -entry.rules


@cache
def layouts() -> abc.Mapping[str, Layout]:
    """Every layout by name."""
    others = {side.name: side for one, _ in _others().usable.values() for side in (one.left, one.right)}
    known = others | _own().layouts
    return {name: known[name] for joined in ends() for name in joined}


def get_layout(name: str) -> Layout:
    """The layout with this name, or as a release has it: ``cerebras/gpt2@1.8``.

    Raises:
        UsageError: no layout has this name; the message lists those that exist.
    """
    own, release = split_name(name)
    if own not in layouts():
        known = remedy(f"{meant(own, layouts())}layouts: {', '.join(layouts())}")
        raise UsageError(f"no layout is called {own!r}", remedy=known) from None
    layout = layouts()[own]
    if not release:
        return layout
    check_release(layout, release)
    return at_release(layout, release)


def releases_of(layout: Layout) -> tuple[Release, ...]:
    """The releases that have had a layout, the current one last; none if its framework has none."""
    upgrades = _upgrades_of(layout)
    return upgrades.releases(layout) if upgrades else layout.releases


def in_todays_words(layout: Layout, section: abc.Mapping[str, Any]) -> abc.Mapping[str, Any]:
    """The model's section of a config of any release of a layout, as far as it takes to recognise the layout."""
    upgrades = _upgrades_of(layout)
    return upgrades.today(section) if upgrades else section


def check_release(layout: Layout, release: Release) -> None:
    """Refuse a release that hasn't had the layout.

    Raises:
        UsageError: it hasn't.
    """
    known = releases_of(layout)
    if release not in known:
        shown = ".".join(map(str, release))
        if not known:
            raise UsageError(f"{layout.name} is the same in every release", remedy="leave out the release")
        first, last = (".".join(map(str, numbers)) for numbers in (known[0], known[-1]))
        raise UsageError(f"release {shown} isn't supported for {layout.name}", remedy=f"releases {first} ... {last}")


@cache
def upgrade(layout: str, source: Release, target: Release) -> Mapping:
    """The mapping of a layout from one release to another; if they are the same, :func:`unchanged`.

    Raises:
        UsageError: it is the same in every release, or hasn't been in one of these.
    """
    found = get_layout(layout)
    for release in (source, target):
        check_release(found, release)
    upgrades = _upgrades_of(found)
    if upgrades is None:
        raise UsageError(f"{layout} is the same in every release", remedy="leave out the release")
    return unchanged(at_release(found, source)) if source == target else upgrades.mapping(found, source, target)


def rescaled(layout: Layout, fields: abc.Mapping[str, Any]) -> Mapping:
    """The mapping of a layout's checkpoints to the same models with other factors beside their weights.

    ``fields`` of their configs say which. The layout is as a release has it, or of none.

    Raises:
        UsageError: no module here says how.
    """
    own, _ = split_name(layout.name)
    framework, _, family = own.partition("/")
    into = [joined for joined in ends() if joined[1] == own]
    into.sort(key=lambda joined: not joined[0].endswith(family.replace("-", "_")))  # its own family's first
    where = _own().rescalings.get(framework)
    if where is not None and into:
        rescaling: Rescaling = module(where).RESCALING
        return rescaling.mapping(_mapping(*into[0]), fields)
    raise UsageError(f"{layout.name} has no factors that could be asked for", remedy="leave out --mup-base")


def _upgrades_of(layout: Layout) -> Upgrades | None:
    """How a layout comes from release to release; None if its framework's layouts don't."""
    where = _own().upgrades.get(layout.name.partition("/")[0])
    return None if where is None else module(where).UPGRADES


def unchanged(layout: Layout) -> Mapping:
    """The mapping of a layout to itself, to change only the format: leaves and config stay as they are."""
    return Mapping(layout, layout, (Verbatim("{rest:*}"),), ConfigTable((Field("", "", name="config"),)))


def find_mapping(source: str, target: str) -> Mapping:
    """The mapping from one layout to another, turned so that ``source`` is its left side.

    Raises:
        UsageError: an unknown layout, or no mapping between the two.
    """
    (own, before), (other, after) = split_name(source), split_name(target)
    get_layout(source), get_layout(target)
    if own == other and before and after:
        return upgrade(own, before, after)
    if source == target:
        return unchanged(get_layout(source))
    if (source, target) in ends():
        return _mapping(source, target)
    if (target, source) in ends():
        return inverse(_mapping(target, source))
    problem = f"there is no mapping between {source} and {target}"
    raise UsageError(problem, remedy=remedy("see convkit list mappings"))
