"""What each of Orbax's two APIs writes: handlers, file names, zarr version, compressor.

Source: orbax-checkpoint 0.12.8, saved by its own ``CheckpointManager`` and ``save_checkpointables``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from convkit.checkpoint import TensorSpec
from convkit.formats.arrays import zarr2, zarr3
from convkit.formats.arrays.zarr import ZarrArray
from convkit.formats.arrays.zarr2 import Zarray
from convkit.state.orbax import handlers


@dataclass(frozen=True)
class Api:
    """An API.

    Args:
        handlers: its handler for each kind of item; kinds that are absent aren't supported.
        json_file: the name of a JSON item's file.
        zarr: the zarr version that it writes.
        marked: whether a file marks its checkpoints.
        commits_items: whether each item is marked as complete, too.
    """

    name: str
    handlers: Mapping[str, str]
    json_file: str
    zarr: int
    marked: bool
    commits_items: bool


V0 = Api("v0", handlers.V0, "metadata", zarr=2, marked=False, commits_items=True)
V1 = Api("v1", handlers.V1, "data.json", zarr=3, marked=True, commits_items=False)

#: zarr version -> Orbax's compressor
COMPRESSORS: Mapping[int, dict[str, Any]] = {2: zarr2.ZSTD, 3: zarr3.ZSTD}


def stored_as(
    spec: TensorSpec,
    chunks: tuple[int, ...],
    inner: tuple[int, ...] | None,
    *,
    zarr: int,
    compressor: dict[str, Any] | None,
) -> ZarrArray:
    """An array in this zarr version; zarr 2 has no shards, so its chunks are the ``inner`` ones."""
    if zarr == 3:
        return zarr3.orbax_array(spec, chunks, inner=inner, compressor=compressor)
    return Zarray(spec, inner or chunks, compressor)
