"""The mappings, one file per model family: declarations only.

A new family is a new module in one of the packages here, with a ``MAPPING``, or with a sequence of them called
``MAPPINGS``; nothing else changes. Other packages add theirs by entry points (:mod:`.of_packages`). A module here with
``UPGRADES`` says how layouts come from release to release.
"""

from __future__ import annotations

from collections import abc
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType
from typing import Any

from convkit.config import Classes, ConfigTable, Field
from convkit.config.classes import Release
from convkit.errors import ConvkitError, UsageError, meant
from convkit.mapping import Layout, Mapping, Rescaling, Upgrades, Verbatim, at_release, inverse, split_name
from convkit.mappings.of_packages import Others, listed, mappings_of_others
from convkit.plugins import Plugin

__all__ = [
    "all_mappings",
    "brought",
    "brought_by",
    "check_release",
    "find_mapping",
    "get_layout",
    "in_todays_words",
    "layouts",
    "own_mappings",
    "own_side",
    "problems",
    "releases_of",
    "remedy",
    "rescaled",
    "unchanged",
    "upgrade",
]


@cache
def all_mappings() -> tuple[Mapping, ...]:
    """Every mapping, in name order; those of other packages that can't be used are left out.

    Raises:
        ConvkitError: a module here can't be imported, or two declare one mapping.
    """
    mappings = own_mappings() | {name: mapping for name, (mapping, _) in _others().usable.items()}
    return tuple(mappings[name] for name in sorted(mappings))


def own_mappings() -> dict[str, Mapping]:
    """The mappings that convkit itself declares, by name.

    Raises:
        ConvkitError: a module can't be imported, or two declare one mapping.
    """
    found: dict[str, tuple[Mapping, str]] = {}
    for name, module in _imported():
        for value in (getattr(module, "MAPPING", ()), getattr(module, "MAPPINGS", ())):
            for mapping in listed(name, value):
                first, there = found.setdefault(mapping.name, (mapping, name))
                if first is not mapping:  # a module may have imported another's
                    remedy = "remove one of them, or give its layout another name"
                    raise ConvkitError(f"{there} and {name} both declare the mapping {mapping.name}", remedy=remedy)
    return {name: mapping for name, (mapping, _) in found.items()}


def own_side(name: str) -> tuple[Layout, Classes]:
    """A layout of convkit's own, and its config classes: one side of a mapping in another package.

    >>> own_side("hf/llama")[0].config_file
    'config.json'

    Raises:
        UsageError: convkit has no such layout.
    """
    sides = [
        (layout, classes)
        for mapping in own_mappings().values()
        for layout, classes in ((mapping.left, mapping.config.left), (mapping.right, mapping.config.right))
    ]
    found = next(((layout, classes) for layout, classes in sides if layout.name == name), None)
    if found is None:
        raise UsageError(f"no layout is called {name!r}", remedy="see convkit list layouts")
    return found


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


def _others() -> Others:
    return mappings_of_others(own_mappings())


def _imported() -> Iterator[tuple[str, ModuleType]]:
    """Every module here, with its name.

    Raises:
        ConvkitError: one can't be imported.
    """
    for name in _modules(list(__path__), f"{__name__}."):
        try:
            yield name, import_module(name)
        except Exception as error:
            raise _broken(name, error) from error


def _modules(path: list[str], prefix: str) -> Iterator[str]:
    """The modules below a package, which needn't be imported for that."""
    for found in iter_modules(path, prefix):
        yield found.name
        if found.ispkg:
            below = [f"{place}/{found.name.removeprefix(prefix)}" for place in path]
            yield from _modules(below, f"{found.name}.")


def _broken(where: str, error: Exception) -> ConvkitError:
    problem = f"mapping module {where} can't be imported: {type(error).__name__}: {error}"
    return ConvkitError(problem, remedy="correct it")


def layouts() -> dict[str, Layout]:
    """Every layout by name."""
    return {layout.name: layout for mapping in all_mappings() for layout in (mapping.left, mapping.right)}


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
    into = [mapping for mapping in all_mappings() if mapping.right.name == own]
    into.sort(key=lambda mapping: not mapping.left.name.endswith(family.replace("-", "_")))  # its own family's first
    for one in (getattr(module, "RESCALING", None) for _, module in _imported()):
        if isinstance(one, Rescaling) and one.framework == framework and into:
            return one.mapping(into[0], fields)
    raise UsageError(f"{layout.name} has no factors that could be asked for", remedy="leave out --mup-base")


def _upgrades_of(layout: Layout) -> Upgrades | None:
    return _upgrades().get(layout.name.partition("/")[0])


@cache
def _upgrades() -> dict[str, Upgrades]:
    """What modules here say of releases, by framework."""
    declared = (getattr(module, "UPGRADES", None) for _, module in _imported())
    return {one.framework: one for one in declared if isinstance(one, Upgrades)}


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
    for mapping in all_mappings():
        if (mapping.left.name, mapping.right.name) == (source, target):
            return mapping
        if (mapping.right.name, mapping.left.name) == (source, target):
            return inverse(mapping)
    problem = f"there is no mapping between {source} and {target}"
    raise UsageError(problem, remedy=remedy("see convkit list mappings"))
