"""The time that is written into files: that of the machine, or SOURCE_DATE_EPOCH, so that the same work gives the same.

Source of facts: reproducible-builds.org, "SOURCE_DATE_EPOCH": whole seconds since 1970, in UTC.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator

from convkit.errors import UsageError

VARIABLE = "SOURCE_DATE_EPOCH"


def now_s() -> int:
    """Whole seconds since 1970.

    Raises:
        UsageError: SOURCE_DATE_EPOCH isn't a number of seconds.
    """
    said = said_s()
    return int(time.time()) if said is None else said


def said_s() -> int | None:
    """The time that SOURCE_DATE_EPOCH says, in whole seconds since 1970; None if it isn't set.

    Raises:
        UsageError: it isn't a number of seconds.
    """
    said = os.environ.get(VARIABLE)
    if said is None:
        return None
    if not (said.isascii() and said.isdecimal()):
        raise UsageError(f"{VARIABLE} is {said!r}, not a number of seconds", remedy="set it right, or unset it")
    return int(said)


@contextlib.contextmanager
def standing_at(seconds: int) -> Iterator[None]:
    """Let it be one time, for this process and those that it starts."""
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = str(seconds)
    try:
        yield
    finally:
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before
