"""How stores fail: for now, which is tried again, or for good."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from convkit.errors import ConvkitError

#: seconds before the second attempt; doubled before each later one
BACKOFF_SECONDS = 1.0
#: further attempts of each request, after 1, 2, 4, 8 and 16 seconds
RETRIES = 5

T = TypeVar("T")


class MissingError(ConvkitError):
    """The source doesn't have this file."""


class DeniedError(ConvkitError):
    """The store doesn't let us read."""


class TransientError(Exception):
    """A failure that may pass: a lost connection, a server that is down."""


class PausedError(ConvkitError):
    """The transfer can't continue now; the bytes that have arrived are kept."""


def retrying(attempt: Callable[[], T], uri: str, retries: int, reached: Callable[[], int] = lambda: 0) -> T:
    """Call ``attempt`` again after each :class:`TransientError`; the count restarts when ``reached`` has grown.

    Raises:
        PausedError: all attempts failed.
    """
    failures, furthest = 0, reached()
    while True:
        try:
            return attempt()
        except TransientError as lost:
            failures = 1 if reached() > furthest else failures + 1
            furthest = max(furthest, reached())
            if failures > retries:
                kept = f"; the {furthest} bytes that arrived are kept" if furthest else ""
                raise PausedError(
                    f"{lost}", path=uri, remedy=f"gave up after {failures} attempts{kept}; try again later"
                ) from lost
            time.sleep(BACKOFF_SECONDS * 2 ** (failures - 1))
