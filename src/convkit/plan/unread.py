"""Refuse leaves of which only the kind is known, unless they are dropped."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from convkit.checkpoint import Leaf, UnknownObject
from convkit.errors import PlanError

#: keys that an error names after the first
_SHOWN = 3


def check_read(leaves: Mapping[str, Leaf], dropped: Collection[str]) -> None:
    """Check that the content of each leaf is known: nothing can carry it otherwise, nor keep it in a complement.

    Raises:
        PlanError: one is an :class:`UnknownObject`, and isn't dropped.
    """
    kinds = {
        key: leaf.value.kind
        for key, leaf in leaves.items()
        if isinstance(leaf.value, UnknownObject) and key not in dropped
    }
    if kinds:
        first, *others = kinds
        shown = f"{', '.join(others[:_SHOWN])}{', ...' if others[_SHOWN:] else ''}"
        more = f" (and {len(others)} more: {shown})" if others else ""
        raise PlanError(
            f"is of a kind that convkit doesn't read: {kinds[first]}{more}",
            key=first,
            remedy=f"save it as a plain tensor or value, or leave it out by name: --drop '{first}'",
        )
