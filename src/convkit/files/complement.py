"""What a complement calls the leaves that the mappings of a chain couldn't carry.

The first mapping of a chain, and a mapping that is alone, loses leaves of the source: they keep their names. Later ones
lose leaves of a layout on the way, whose names could be those of other leaves: they are told apart by a prefix.
"""

from __future__ import annotations

from collections.abc import Iterable


def kept_as(place: int, key: str) -> str:
    """The name in the complement of a leaf that the mapping at this place of a chain couldn't carry."""
    return f"through {place}: {key}" if place else key


def kept_at(place: int, names: Iterable[str]) -> dict[str, str]:
    """Those leaves of a complement that the mapping at this place couldn't carry: their names by their own keys."""
    prefix = kept_as(place, "") or "through "
    if place:
        return {name.removeprefix(prefix): name for name in names if name.startswith(prefix)}
    return {name: name for name in names if not name.startswith(prefix)}
