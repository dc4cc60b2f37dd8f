"""What the two formats of Orbax have in common: how they are told, and how they are opened."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from convkit.checkpoint import Checkpoint, Format, Leaf, WriteOptions, Writer
from convkit.errors import ConvkitError
from convkit.formats.orbax.api import V0, V1, Api
from convkit.formats.orbax.reader import open_orbax
from convkit.formats.orbax.record import KEY
from convkit.formats.orbax.writer import OrbaxWriter
from convkit.state.orbax import layout


class Orbax(Format):
    """The format of one of Orbax's two APIs; either opens what both wrote.

    What an opened checkpoint's ``metadata`` holds is said by :func:`~convkit.formats.orbax.reader.open_orbax`;
    with the same under ``options.metadata`` the same checkpoint is written.
    """

    folder = True
    carried = (KEY,)
    holds_config = True
    config_files = tuple(f"config/{api.json_file}" for api in (V1, V0))
    #: what is written
    api: ClassVar[Api]

    def detect(self, path: Path) -> str | None:
        """By what lies there; a root and an unfinished save too, so that opening says what is wrong."""
        try:
            found = layout.recognise(path)
        except layout.NotOrbax:
            return None
        except ConvkitError as error:
            return error.problem if self.api.name == "v0" else None
        return found.why if found.api == self.api.name and found.kind != layout.SAFETENSORS else None

    def open(self, path: Path) -> Checkpoint:
        """Open a step, a checkpoint without items, an item, or a file of flax's.

        Raises:
            ConvkitError: as :func:`~convkit.formats.orbax.reader.open_orbax`.
        """
        return open_orbax(path)

    def create(self, path: Path, leaves: Sequence[Leaf], options: WriteOptions, *, resume: bool = False) -> Writer:
        """Lay out a checkpoint: as ``options.metadata`` tells of another one of Orbax's, else one item ``state``.

        Raises:
            ConvkitError: a leaf that Orbax doesn't hold, or two with one storage name.
            UsageError: chunks that don't fit, no such compressor.
        """
        return OrbaxWriter(path, leaves, options, self.api)
