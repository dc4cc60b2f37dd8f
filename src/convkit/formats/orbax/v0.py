"""``orbax-v0``: checkpoints of the API that Orbax has had from the start."""

from __future__ import annotations

from convkit.formats.orbax.api import V0
from convkit.formats.orbax.format import Orbax


class OrbaxV0(Orbax):
    """The format."""

    name = "orbax-v0"
    summary = "Orbax: steps of items in OCDBT and zarr 2; reads all releases, without items, and flax's msgpack"
    api = V0


FORMAT = OrbaxV0()
