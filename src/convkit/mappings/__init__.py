"""The mappings, one file per model family: declarations only.

A new family is a new module with a ``MAPPING`` in one of the packages here; nothing else changes. Other packages add
theirs through the entry point group ``convkit.mappings`` (a ``Mapping`` each).
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
    """Every mapping, in name order."""
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
    """The layout with this name.

    Raises:
        UsageError: no layout has this name; the message lists those that exist.
    """
    try:
        return layouts()[name]
    except KeyError:
        raise UsageError(f"no layout is called {name!r}", remedy=f"layouts: {', '.join(layouts())}") from None


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
