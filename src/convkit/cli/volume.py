"""How much the command that runs prints."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct


class Volume(Struct):
    """How much a command prints: ``quiet`` leaves warnings, errors and JSON; ``verbose`` shortens no list; ``still``
    shows no progress.
    """

    quiet: bool = False
    verbose: bool = False
    still: bool = False

    def shown(self, names: Sequence[str], few: int) -> Sequence[str]:
        """The names or lines that are printed: the first few, or all."""
        return names if self.verbose else names[:few]


#: of the command that runs
VOLUME = Volume()
