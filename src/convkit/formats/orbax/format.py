"""Base of the two Orbax formats: how checkpoints are recognised and opened."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from convkit.checkpoint import Checkpoint, Format, Leaf, WriteOptions, Writer
from convkit.errors import ConvkitError
from convkit.formats.arrays.ocdbt_entries import MANIFEST, database_time
from convkit.formats.orbax.api import V0, V1, Api
from convkit.formats.orbax.reader import open_orbax
from convkit.formats.orbax.record import KEY
from convkit.formats.orbax.writer import OrbaxWriter
from convkit.state.orbax import layout, step

_SECOND = 1_000_000_000


class Orbax(Format):
    """The format of one of Orbax's two APIs; each opens checkpoints of both.

    :func:`~convkit.formats.orbax.reader.open_orbax` describes the ``metadata`` of an opened checkpoint; the same
    ``options.metadata`` writes the same checkpoint.
    """

    folder = True
    same_bytes = True
    in_stores = True
    carried = (KEY,)
    holds_config = True
    config_files = tuple(f"config/{api.json_file}" for api in (V1, V0))
    #: the API whose checkpoints are written
    api: ClassVar[Api]

    def detect(self, path: Path) -> str | None:
        """Recognise by contents; also a root and an unfinished save, so that opening can say what is wrong."""
        try:
            found = layout.recognise(path)
        except layout.NotOrbax:
            return None
        except ConvkitError as error:
            return error.problem if self.api.name == "v0" else None
        return found.why if found.api == self.api.name and found.kind != layout.SAFETENSORS else None

    def times(self, path: Path) -> set[int]:
        """Those of its databases; without one, those of its steps.

        They are whole seconds where convkit wrote it. Others are Orbax's, and taken over from a source, as are the
        times of its steps.
        """
        databases = {database_time(file.parent) for file in path.rglob(MANIFEST)}
        found = [step.read(file.parent) for file in path.rglob(step.FILE)]
        steps = {time for one in found if one for time in one.times}
        for times in (databases, steps):
            ours = {time // _SECOND for time in times if time % _SECOND == 0}
            if ours:
                return ours
        return set()

    def open(self, path: Path) -> Checkpoint:
        """Open a step, a checkpoint without items, an item, or a flax file.

        Raises:
            ConvkitError: see :func:`~convkit.formats.orbax.reader.open_orbax`.
        """
        return open_orbax(path)

    def create(self, path: Path, leaves: Sequence[Leaf], options: WriteOptions, *, resume: bool = False) -> Writer:
        """Lay out a checkpoint: as ``options.metadata`` records an Orbax checkpoint, else with one item ``state``.

        Raises:
            ConvkitError: a leaf that Orbax doesn't hold, or two with one storage name.
            UsageError: chunks that don't fit, or an unknown compressor.
        """
        return OrbaxWriter(path, leaves, options, self.api)
