"""Where the chunks of an array lie in a database, which follows from the array alone.

Chunks are numbered in C order, and cut into segments, each a data file of its own: whole rows of chunks, 64 MiB before
they are packed at the most, unless one row is more. A small array has one segment, which shares a file with others.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import xxhash

from convkit.formats.arrays.zarr import ZarrArray

#: an array of at most this many bytes is small: it gets no file of its own
SMALL = 4 << 20
#: bytes of a segment before they are packed, at most
SEGMENT_BYTES = 64 << 20


@dataclass(frozen=True)
class ArrayLayout:
    """An array, and how its chunks are cut."""

    zarray: ZarrArray

    @property
    def small(self) -> bool:
        """Whether it shares a file with others."""
        return self.zarray.spec.nbytes <= SMALL

    @cached_property
    def rows(self) -> int:
        """Rows of chunks of a segment.

        It is a power of two, so that ranges that also are whole blocks of digests are whole segments, too.
        """
        if self.small:
            return max(1, -(-self.zarray.spec.size // self.zarray.row))
        most = SEGMENT_BYTES // (self.zarray.row * self.zarray.spec.itemsize)
        return 1 << max(0, most.bit_length() - 1)

    def segments(self) -> list[range]:
        """The numbers of the chunks of each segment."""
        step, count = self.rows * self.zarray.row_chunks, self.zarray.chunk_count
        return [range(first, min(count, first + step)) for first in range(0, count, max(1, step))]


def layout_digest(layouts: Mapping[str, ArrayLayout]) -> str:
    """Sixteen hexadecimal digits: what was written of other arrays, or cut otherwise, has others."""
    said = [[name, one.zarray.name, one.zarray.to_json(), one.small, one.rows] for name, one in layouts.items()]
    return xxhash.xxh3_64_hexdigest(json.dumps(said, sort_keys=True).encode())
