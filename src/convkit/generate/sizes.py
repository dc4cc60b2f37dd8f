"""Checks the sizes of generated models."""

from __future__ import annotations

from convkit.errors import UsageError


def at_least_one(options: object, *names: str) -> None:
    """Check that each of these fields is above 0.

    Raises:
        UsageError: a field isn't.
    """
    for name in names:
        if getattr(options, name) < 1:
            raise UsageError(f"{name} is {getattr(options, name)}", remedy="it must be at least 1")


def grouped_and_rotated(hidden: int, heads: int, kv_heads: int) -> None:
    """Check that groups of heads can share keys, and that a head can be rotated.

    Raises:
        UsageError: the number of groups doesn't divide that of heads, or heads have an odd size.
    """
    if kv_heads < 1 or heads % kv_heads:
        raise UsageError(f"heads {heads} isn't a multiple of kv_heads {kv_heads}")
    if hidden // heads % 2:
        raise UsageError(f"hidden / heads is {hidden // heads}", remedy="rotary positions need it even")
