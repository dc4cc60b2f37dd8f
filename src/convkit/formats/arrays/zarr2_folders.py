"""Writes leaves as zarr 2 folders below one folder, chunked and compressed as the user asks, for T5X and Pax."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from convkit.checkpoint import TensorSpec, WriteOptions
from convkit.errors import ConvkitError, UsageError
from convkit.formats.arrays import zarr2
from convkit.formats.arrays.folders import UNFINISHED, LeafFolderWriter
from convkit.formats.arrays.ranges import chunk_shape
from convkit.formats.arrays.zarr import ZarrArray
from convkit.formats.arrays.zarr2 import Zarray

#: longest name that file systems allow
_NAME_BYTES = 255


class Zarr2FolderWriter(LeafFolderWriter):
    """Writes leaves as folders.

    Args:
        specs: the leaves that become folders.
        default: the compressor if the options name none.

    Raises:
        ConvkitError: a key that can't be a folder's name.
        UsageError: chunks that don't fit their leaf, or an unknown compressor.
    """

    def __init__(
        self, folder: Path, specs: Mapping[str, TensorSpec], options: WriteOptions, default: dict[str, object]
    ) -> None:
        self._options = options
        compressor = default if options.compressor is None else zarr2.parse_compressor(options.compressor)
        for key in specs:
            _check_name(folder, key)
        arrays = {key: Zarray(spec, _chunks(key, spec, options), compressor) for key, spec in specs.items()}
        super().__init__(folder, arrays, options.outlet)

    def takes(self, key: str, stored: ZarrArray) -> bool:
        """Any array of the leaf's shape and dtype, unless the user asked for other chunks or another compressor."""
        wanted = self.arrays[key]
        other_chunks = key in self._options.chunks and stored.chunks != wanted.chunks
        other_compressor = self._options.compressor is not None and stored.compressor != wanted.compressor
        return stored.spec == wanted.spec and not other_chunks and not other_compressor


def _check_name(folder: Path, key: str) -> None:
    if key in ("", ".", "..") or "/" in key or "\0" in key or len(key.encode()) > _NAME_BYTES - len(UNFINISHED[0]):
        raise ConvkitError("can't be the name of a folder", path=folder, key=key, remedy="rename the leaf")
    if key.endswith(UNFINISHED):
        raise ConvkitError("is named like an unfinished file", path=folder, key=key, remedy="rename the leaf")


def asked_chunks(key: str, spec: TensorSpec, options: WriteOptions) -> tuple[int, ...] | None:
    """The chunk shape that the user asks for, if any.

    Raises:
        UsageError: it doesn't fit the leaf.
    """
    chunks = options.chunks.get(key)
    if chunks is None:
        return None
    if len(chunks) != len(spec.shape) or not all(n > 0 for n in chunks):
        raise UsageError(
            f"no chunks of {key}{list(spec.shape)}: {list(chunks)}", remedy="give a length above 0 for each axis"
        )
    return tuple(min(chunk, max(1, length)) for chunk, length in zip(chunks, spec.shape, strict=True))


def _chunks(key: str, spec: TensorSpec, options: WriteOptions) -> tuple[int, ...]:
    asked = asked_chunks(key, spec, options)
    return chunk_shape(spec.shape, spec.itemsize, zarr2.CHUNK_BYTES) if asked is None else asked
