"""What every generated model asks of its sizes."""

from __future__ import annotations

from convkit.errors import UsageError


def at_least_one(options: object, *names: str) -> None:
    """Each of these fields must be above 0.

    Raises:
        UsageError: one isn't.
    """
    for name in names:
        if getattr(options, name) < 1:
            raise UsageError(f"{name} is {getattr(options, name)}", remedy="it must be at least 1")
