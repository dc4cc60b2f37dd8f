"""Reproducible gzip of zarr chunks: the same elements always give the same bytes.

tensorstore's own gzip isn't reproducible (0.1.86: about one small array in ten differs by a few bits at its end from
run to run); Python's zlib is.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from convkit.formats.arrays.ranges import Box
from convkit.formats.arrays.zarr2 import Zarray

if TYPE_CHECKING:
    import numpy as np

#: zlib's window of 32 KiB, in a gzip container
_GZIP = 15 + 16


def packed_chunks(zarray: Zarray, box: Box, data: np.ndarray) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of each chunk in a box of whole chunks; ``data`` has the box's shape."""
    ranges = [range(side.start, side.stop, chunk) for side, chunk in zip(box, zarray.chunks, strict=True)]
    for corner in itertools.product(*ranges):
        inside = tuple(
            slice(start - side.start, start - side.start + chunk)
            for start, side, chunk in zip(corner, box, zarray.chunks, strict=True)
        )
        position = [start // chunk for start, chunk in zip(corner, zarray.chunks, strict=True)]
        yield zarray.chunk_name(position), _packed(zarray, data[inside])


def _packed(zarray: Zarray, data: np.ndarray) -> bytes:
    """The compressed chunk, padded with zeros beyond the array's border."""
    import numpy as np

    missing = [(0, chunk - length) for chunk, length in zip(zarray.chunks, data.shape, strict=True)]
    whole = np.ascontiguousarray(np.pad(data, missing) if any(after for _, after in missing) else data)
    level = zarray.compressor["level"] if zarray.compressor else 0
    packer = zlib.compressobj(level, zlib.DEFLATED, _GZIP)
    return packer.compress(whole.reshape(-1).view(np.uint8).data) + packer.flush()
