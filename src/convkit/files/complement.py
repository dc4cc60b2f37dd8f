"""Name the leaves in a complement that the mappings of a chain couldn't carry.

The first mapping of a chain, like a single mapping, loses leaves of the source, which keep their names. Later ones
lose leaves of an intermediate layout, which could have the same names: a prefix distinguishes them.
"""

from __future__ import annotations

from collections.abc import Iterable


def kept_as(place: int, key: str) -> str:
    """Name a leaf in the complement that the mapping at this place of a chain couldn't carry."""
    return f"through {place}: {key}" if place else key


def kept_at(place: int, names: Iterable[str]) -> dict[str, str]:
    """Find the leaves that the mapping at this place couldn't carry: names in the complement, by original key."""
    prefix = kept_as(place, "") or "through "
    if place:
        return {name.removeprefix(prefix): name for name in names if name.startswith(prefix)}
    return {name: name for name in names if not name.startswith(prefix)}
