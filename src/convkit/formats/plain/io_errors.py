"""Turns the system's errors about an output into one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from convkit.errors import ConvkitError


@contextmanager
def written_below(path: Path) -> Iterator[None]:
    """Raise :class:`ConvkitError` for an :class:`OSError`, naming the file that the system names, else ``path``."""
    try:
        yield
    except OSError as error:
        raise unwritable(error, error.filename or path) from error


def unwritable(error: Exception, path: Path | str, key: str | None = None) -> ConvkitError:
    """The error for a failure that the system reported."""
    reason = getattr(error, "strerror", None) or error
    return ConvkitError(f"can't be written: {reason}", path=path, key=key, remedy="check free space and permissions")
