"""Name the leaves in a complement that the mappings of a chain couldn't carry, and those of conversions before it.

The first mapping of a chain, like a single mapping, loses leaves of the source, which keep their names. Later ones
lose leaves of an intermediate layout, which could have the same names: a prefix distinguishes them. What conversions
before this one lost, and this one doesn't bring back, has another prefix. Their places are -1, -2, ..., the oldest
first.
"""

from __future__ import annotations

from collections.abc import Iterable

_PREFIXES = ("through ", "before ")


def kept_as(place: int, key: str) -> str:
    """Name a leaf in the complement that the mapping at this place couldn't carry.

    >>> kept_as(0, "a.bias"), kept_as(1, "a.bias"), kept_as(-1, "a.bias")
    ('a.bias', 'through 1: a.bias', 'before 0: a.bias')
    """
    if place < 0:
        return f"before {-place - 1}: {key}"
    return f"through {place}: {key}" if place else key


def kept_at(place: int, names: Iterable[str]) -> dict[str, str]:
    """Find the leaves that the mapping at this place couldn't carry: names in the complement, by original key."""
    if place:
        prefix = kept_as(place, "")
        return {name.removeprefix(prefix): name for name in names if name.startswith(prefix)}
    return {name: name for name in names if not name.startswith(_PREFIXES)}
