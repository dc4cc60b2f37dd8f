"""``orbax-v0``: checkpoints of Orbax's original API."""

from __future__ import annotations

from convkit.formats.orbax.api import V0
from convkit.formats.orbax.format import Orbax


class OrbaxV0(Orbax):
    """The format."""

    name = "orbax-v0"
    summary = "Orbax: steps of items in OCDBT and zarr 2; reads all releases, without items, and flax's msgpack"
    api = V0


FORMAT = OrbaxV0()
