"""The mappings, one file per model family: declarations only.

A new family is a new module in one of the packages here, with a ``MAPPING``, or with a sequence of them called
``MAPPINGS``; nothing else changes. Other packages add theirs through the entry point group ``convkit.mappings`` (a
``Mapping`` each, or a sequence of them).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from pkgutil import iter_modules
from typing import Any

from convkit.config import ConfigTable, Field
from convkit.errors import ConvkitError, UsageError, meant
from convkit.mapping import Layout, Mapping, Verbatim, inverse

__all__ = ["all_mappings", "find_mapping", "get_layout", "layouts", "unchanged"]


@cache
def all_mappings() -> tuple[Mapping, ...]:
    """Every mapping, in name order.

    Raises:
        ConvkitError: a module can't be imported, or two declare one mapping.
    """
    found: dict[str, tuple[Mapping, str]] = {}
    for where, mapping in _declared():
        first, there = found.setdefault(mapping.name, (mapping, where))
        if first is not mapping:  # a module may have imported another's
            remedy = "remove one of them, or give its layout another name"
            raise ConvkitError(f"{there} and {where} both declare the mapping {mapping.name}", remedy=remedy)
    return tuple(found[name][0] for name in sorted(found))


def _declared() -> Iterator[tuple[str, Mapping]]:
    """Every mapping that a module here or an entry point declares, with the name of what declares it."""
    for name in _modules(list(__path__), f"{__name__}."):
        try:
            module = import_module(name)
        except Exception as error:
            raise _broken(name, error) from error
        for value in (getattr(module, "MAPPING", ()), getattr(module, "MAPPINGS", ())):
            yield from ((name, mapping) for mapping in _listed(name, value))
    for entry in entry_points(group="convkit.mappings"):
        try:
            value = entry.load()
        except Exception as error:
            raise _broken(f"{entry.name} = {entry.value}", error) from error
        yield from ((entry.value, mapping) for mapping in _listed(entry.value, value))


def _modules(path: list[str], prefix: str) -> Iterator[str]:
    """The modules below a package, which needn't be imported for that."""
    for found in iter_modules(path, prefix):
        yield found.name
        if found.ispkg:
            below = [f"{place}/{found.name.removeprefix(prefix)}" for place in path]
            yield from _modules(below, f"{found.name}.")


def _listed(where: str, value: Any) -> tuple[Mapping, ...]:
    mappings = (value,) if isinstance(value, Mapping) else tuple(value) if isinstance(value, list | tuple) else (value,)
    if other := [one for one in mappings if not isinstance(one, Mapping)]:
        problem = f"{where} gives a {type(other[0]).__name__} where a mapping is expected"
        raise ConvkitError(problem, remedy="correct the module, or the entry point convkit.mappings")
    return mappings


def _broken(where: str, error: Exception) -> ConvkitError:
    problem = f"mapping module {where} can't be imported: {type(error).__name__}: {error}"
    return ConvkitError(problem, remedy="correct it, or remove the package that brings it")


def layouts() -> dict[str, Layout]:
    """Every layout by name."""
    return {layout.name: layout for mapping in all_mappings() for layout in (mapping.left, mapping.right)}


def get_layout(name: str) -> Layout:
    """The layout with this name.

    Raises:
        UsageError: no layout has this name; the message lists those that exist.
    """
    try:
        return layouts()[name]
    except KeyError:
        remedy = f"{meant(name, layouts())}layouts: {', '.join(layouts())}"
        raise UsageError(f"no layout is called {name!r}", remedy=remedy) from None


def unchanged(layout: Layout) -> Mapping:
    """The mapping of a layout to itself, to change only the format: leaves and config stay as they are."""
    return Mapping(layout, layout, (Verbatim("{rest:*}"),), ConfigTable((Field("", "", name="config"),)))


def find_mapping(source: str, target: str) -> Mapping:
    """The mapping from one layout to another, turned so that ``source`` is its left side.

    Raises:
        UsageError: an unknown layout, or no mapping between the two.
    """
    get_layout(source), get_layout(target)
    if source == target:
        return unchanged(get_layout(source))
    for mapping in all_mappings():
        if (mapping.left.name, mapping.right.name) == (source, target):
            return mapping
        if (mapping.right.name, mapping.left.name) == (source, target):
            return inverse(mapping)
    raise UsageError(f"there is no mapping between {source} and {target}", remedy="see convkit list mappings")
