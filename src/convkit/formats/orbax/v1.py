"""``orbax-v1``: checkpoints of Orbax's v1 API."""

from __future__ import annotations

from convkit.formats.orbax.api import V1
from convkit.formats.orbax.format import Orbax


class OrbaxV1(Orbax):
    """The format."""

    name = "orbax-v1"
    summary = "Orbax's v1 API: steps of checkpointables in OCDBT and zarr 3"
    api = V1


FORMAT = OrbaxV1()
