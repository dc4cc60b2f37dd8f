"""Whether the stored chunks of an array are all there and whole, told without decompressing them.

A chunk without compression has its exact length. A gzip file ends with the length of what it holds
(RFC 1952), a zstd frame tells the length of each of its blocks (RFC 8878), so that a file that was
cut shows when the checkpoint is opened. Damage within a chunk shows when it is read: gzip carries a
checksum, zstd as tensorstore writes it carries none.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

from convkit.errors import ConvkitError
from convkit.formats.zarr2 import Zarray

_REFETCH = "fetch the file again"
_GZIP_MAGIC, _GZIP_LEAST = b"\x1f\x8b", 18
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
#: by the frame descriptor's two low bits, and by its two high ones
_ZSTD_DICTIONARY, _ZSTD_CONTENT = (0, 1, 2, 4), (0, 2, 4, 8)


def stored_chunks(folder: Path, zarray: Zarray, key: str) -> list[Path]:
    """The files of an array's chunks.

    Raises:
        ConvkitError: one is missing where nothing says what its elements are, or is cut.
    """
    found = []
    for name in zarray.chunk_names():
        file = folder / name
        try:
            with file.open("rb") as opened:
                _check_whole(file, opened, zarray, key)
        except FileNotFoundError:
            if zarray.fill_value is None:
                raise ConvkitError(f"chunk {name} is missing", path=folder, key=key, remedy=_REFETCH) from None
        else:
            found.append(file)
    return found


def _check_whole(path: Path, file: BinaryIO, zarray: Zarray, key: str) -> None:
    size, expected = os.fstat(file.fileno()).st_size, zarray.chunk_nbytes
    kind = zarray.compressor["id"] if zarray.compressor else None
    if kind is None:
        whole = bool(zarray.filters) or size == expected
    elif kind == "gzip":
        whole = size >= _GZIP_LEAST and file.read(2) == _GZIP_MAGIC and _gzip_length(file) == expected % 2**32
    elif kind == "zstd":
        whole = _zstd_ends(file, size)
    else:
        whole = size > 0
    if not whole:
        raise ConvkitError(
            f"is truncated or corrupt: {size} bytes are no whole chunk", path=path, key=key, remedy=_REFETCH
        )


def _gzip_length(file: BinaryIO) -> int:
    file.seek(-4, os.SEEK_END)
    return int.from_bytes(file.read(4), "little")


def _zstd_ends(file: BinaryIO, size: int) -> bool:
    """Whether frames follow one another to the file's end."""
    position = 0
    while position < size:
        file.seek(position)
        head = file.read(5)
        if len(head) < 5 or not head.startswith(_ZSTD_MAGIC):
            return False
        single, checksum = head[4] >> 5 & 1, head[4] >> 2 & 1
        content = _ZSTD_CONTENT[head[4] >> 6] or single
        position += 5 + (not single) + _ZSTD_DICTIONARY[head[4] & 3] + content
        last = False
        while not last:
            file.seek(position)
            block = int.from_bytes(entry := file.read(3), "little")
            if len(entry) < 3:
                return False
            # a block of kind 1 is one byte, repeated
            position += 3 + (1 if block >> 1 & 3 == 1 else block >> 3)
            last = bool(block & 1)
        position += 4 * checksum
    return size > 0 and position == size
