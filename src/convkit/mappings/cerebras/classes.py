"""Releases of Cerebras ModelZoo."""

from __future__ import annotations

#: Releases whose layouts are known, the current one last. 2.10 has 2.9's layouts.
RELEASES = tuple((2, minor) for minor in range(1, 11))
