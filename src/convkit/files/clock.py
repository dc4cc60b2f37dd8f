"""The time that is written into files: that of the machine, or SOURCE_DATE_EPOCH, so that the same work gives the same.

Source of facts: reproducible-builds.org, "SOURCE_DATE_EPOCH": whole seconds since 1970, in UTC.
"""

from __future__ import annotations

import os
import time

from convkit.errors import UsageError

VARIABLE = "SOURCE_DATE_EPOCH"


def now_ns() -> int:
    """Nanoseconds since 1970.

    Raises:
        UsageError: SOURCE_DATE_EPOCH isn't a number of seconds.
    """
    said = os.environ.get(VARIABLE)
    if said is None:
        return time.time_ns()
    if not (said.isascii() and said.isdecimal()):
        raise UsageError(f"{VARIABLE} is {said!r}, not a number of seconds", remedy="set it right, or unset it")
    return int(said) * 1_000_000_000
