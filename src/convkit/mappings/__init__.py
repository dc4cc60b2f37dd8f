"""The mappings, one file a model family: declarations only.

A new family is a new module with a ``MAPPING`` in one of the packages here; nothing else changes.
Packages of others add theirs through the entry point group ``convkit.mappings`` (a ``Mapping`` each).
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from pkgutil import walk_packages

from convkit.config import ConfigTable, Field
from convkit.errors import UsageError
from convkit.mapping import Layout, Mapping, Verbatim, inverse

__all__ = ["all_mappings", "find_mapping", "get_layout", "layouts", "unchanged"]


@cache
def all_mappings() -> tuple[Mapping, ...]:
    """Every mapping, in the order of their names."""
    found: dict[str, Mapping] = {}
    for module in walk_packages(__path__, f"{__name__}."):
        mapping = getattr(import_module(module.name), "MAPPING", None)
        if isinstance(mapping, Mapping):
            found[mapping.name] = mapping
    for entry in entry_points(group="convkit.mappings"):
        found[entry.load().name] = entry.load()
    return tuple(found[name] for name in sorted(found))


def layouts() -> dict[str, Layout]:
    """Every layout by name."""
    return {layout.name: layout for mapping in all_mappings() for layout in (mapping.left, mapping.right)}


def get_layout(name: str) -> Layout:
    """The layout of that name.

    Raises:
        UsageError: there is none; lists the names.
    """
    try:
        return layouts()[name]
    except KeyError:
        raise UsageError(f"no layout is called {name!r}", remedy=f"layouts: {', '.join(layouts())}") from None


def unchanged(layout: Layout) -> Mapping:
    """The mapping of a layout to itself, for another format: every leaf and the whole config stay as they are."""
    return Mapping(layout, layout, (Verbatim("{rest:*}"),), ConfigTable((Field("", "", name="config"),)))


def find_mapping(source: str, target: str) -> Mapping:
    """The mapping from one layout to another, turned so that ``source`` is its left side.

    Raises:
        UsageError: an unknown layout, or two that no mapping joins.
    """
    get_layout(source), get_layout(target)
    if source == target:
        return unchanged(get_layout(source))
    for mapping in all_mappings():
        if (mapping.left.name, mapping.right.name) == (source, target):
            return mapping
        if (mapping.right.name, mapping.left.name) == (source, target):
            return inverse(mapping)
    raise UsageError(f"no mapping joins {source} and {target}", remedy="see convkit list mappings")
