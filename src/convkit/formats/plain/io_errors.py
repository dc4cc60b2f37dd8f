"""What the system says when an output can't be written, in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from convkit.errors import ConvkitError


@contextmanager
def written_below(path: Path) -> Iterator[None]:
    """Raise :class:`ConvkitError` for an :class:`OSError`; it names the file that the system names, else ``path``."""
    try:
        yield
    except OSError as error:
        raise ConvkitError(
            f"can't be written: {error.strerror or error}",
            path=error.filename or path,
            remedy="check free space and permissions",
        ) from error
