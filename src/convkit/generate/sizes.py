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
