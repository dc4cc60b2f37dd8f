"""Releases of Cerebras ModelZoo."""

from __future__ import annotations

#: Cerebras releases whose layout is known; 2.10 is the current one and has 2.9's layout.
CURRENT_RELEASE = (2, 10)


RELEASES = tuple((2, minor) for minor in range(1, 11))
