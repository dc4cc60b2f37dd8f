"""Read an Orbax root as one checkpoint: the leaves of all its steps, each below its step's name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from convkit.checkpoint import Checkpoint
from convkit.checkpoint.views import Joined, Renamed
from convkit.errors import ConvkitError
from convkit.formats.orbax.reader import open_orbax
from convkit.state.orbax.layout import ROOT, Found, recognise

if TYPE_CHECKING:
    import numpy as np


def root_at(path: Path) -> Found | None:
    """Recognise a root at a path; None if it isn't one."""
    if not path.is_dir():
        return None
    try:
        found = recognise(path)
    except ConvkitError:
        return None
    return found if found.kind == ROOT else None


class RootCheckpoint(Checkpoint):
    """Open all steps of a root.

    Raises:
        ConvkitError: a step can't be read.
    """

    def __init__(self, found: Found) -> None:
        self.path = found.path
        self.format = f"orbax-{found.api}"
        self.metadata = {}
        self._steps = {step.name: open_orbax(step) for step in found.steps}
        self._all = Joined(
            *(Renamed(step, {f"{name}/{key}": key for key in step.leaves}) for name, step in self._steps.items())
        )
        self.leaves = self._all.leaves

    def read(self, key: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Read from the step that holds the leaf."""
        return self._all.read(key, start, stop)

    def granularity(self, key: str) -> int:
        """The granularity of the leaf in its step."""
        return self._all.granularity(key)

    def continues(self, key: str) -> bool:
        """See :meth:`Tensors.continues`."""
        return self._all.continues(key)

    def files(self) -> list[Path]:
        """The files of all steps."""
        return [file for step in self._steps.values() for file in step.files()]

    def close(self) -> None:
        """Close all steps."""
        for step in self._steps.values():
            step.close()
