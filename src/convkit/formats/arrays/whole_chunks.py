"""Checks that an array's stored chunks are present and complete, without decompressing them.

An uncompressed chunk has an exact length. A gzip file ends with the length of its contents (RFC 1952), a zstd frame
gives the length of each of its blocks (RFC 8878), blosc starts with both lengths, and a shard has an index of its
chunks; so a truncated file is found when the checkpoint is opened, and one that says more than a chunk. Damage within a
chunk is found when the chunk is read, if it was packed by gzip: zstd as tensorstore writes it has no checksum.
"""

from __future__ import annotations

import os
import re
import struct
from pathlib import Path
from typing import BinaryIO

from convkit.checkpoint.tensors import check_unstored
from convkit.checkpoint.threads import openers
from convkit.errors import ConvkitError
from convkit.formats.arrays.zarr import REFETCH, ZarrArray
from convkit.formats.arrays.zarr3 import Zarr3Array

_GZIP_MAGIC, _GZIP_LEAST = b"\x1f\x8b", 18
#: of a shard's index: bytes per inner chunk, bytes of crc32c, and the offset of a chunk that isn't stored
_INDEX_ENTRY, _INDEX_CHECKSUM, _ABSENT = 16, 4, 2**64 - 1
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
#: of a block: its kind if it is compressed, the largest; zstd cuts one into a few smaller ones where that packs better
_ZSTD_COMPRESSED, _ZSTD_BLOCK, _ZSTD_SPLIT = 2, 1 << 17, 64
#: at the start of a chunk of blosc: after four bytes its length, after four more that of what is packed
_BLOSC = struct.Struct("<4xI4xI")
#: by the frame descriptor's two low bits, and by its two high ones
_ZSTD_DICTIONARY, _ZSTD_CONTENT = (0, 1, 2, 4), (0, 2, 4, 8)


def stored_chunks(folder: Path, zarray: ZarrArray, key: str, *, complete: bool = False) -> list[Path]:
    """The files of an array's chunks.

    Args:
        complete: require all chunks, even if the array may be sparse.

    Raises:
        ConvkitError: a chunk is missing and the array isn't sparse, or a chunk is truncated.
    """
    may_lack = zarray.sparse and not complete
    names = list(_stored_names(folder, zarray) if may_lack else zarray.chunk_names())

    def check(name: str) -> Path:
        file = folder / name
        try:
            with file.open("rb", buffering=0) as opened:  # a few bytes of each are read
                _check_whole(file, opened, zarray, key)
        except FileNotFoundError:
            raise ConvkitError(f"chunk {name} is missing", path=folder, key=key, remedy=REFETCH) from None
        return file

    if len(names) > 1:
        with openers(folder) as pool:
            found = list(pool.map(check, names))
    else:
        found = [check(name) for name in names]
    check_unstored(zarray.spec.nbytes, len(found) * zarray.chunk_nbytes, folder, key)
    return found


def _stored_names(folder: Path, zarray: ZarrArray) -> list[str]:
    """The chunks that are there, in C order: an array whose chunks may be absent may be far larger than its files."""
    there = (file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())
    return sorted(filter(zarray.is_chunk, there), key=lambda name: [int(n) for n in re.findall(r"\d+", name)])


def _check_whole(path: Path, file: BinaryIO, zarray: ZarrArray, key: str) -> None:
    size = file.seek(0, os.SEEK_END)
    parts = _shard_parts(file, zarray) if isinstance(zarray, Zarr3Array) and zarray.shard else [(0, size)]
    if not all(_is_whole(file, zarray, start, stop) for start, stop in parts):
        raise ConvkitError(
            f"is truncated or corrupt: {size} bytes aren't a whole chunk", path=path, key=key, remedy=REFETCH
        )


def _shard_parts(file: BinaryIO, zarray: Zarr3Array) -> list[tuple[int, int]]:
    """Ranges of the inner chunks; an empty range where the index is invalid."""
    count = zarray.chunk_nbytes // zarray.decoded_nbytes
    shard = zarray.shard or {}
    names = [codec["name"] for codec in shard["index_codecs"]]
    length = _INDEX_ENTRY * count + (_INDEX_CHECKSUM if "crc32c" in names else 0)
    size = file.seek(0, os.SEEK_END)
    at_end = shard.get("index_location", "end") == "end"
    first, last = (0, size - length) if at_end else (length, size)
    if size < length:
        return [(size, size)]
    file.seek(last if at_end else 0)
    entries = struct.unpack(f"<{2 * count}Q", file.read(_INDEX_ENTRY * count))
    stored = [pair for pair in zip(entries[::2], entries[1::2], strict=True) if pair != (_ABSENT, _ABSENT)]
    return [(start, start + n) if first <= start <= start + n <= last else (size, size) for start, n in stored]


def _is_whole(file: BinaryIO, zarray: ZarrArray, start: int, stop: int) -> bool:
    """Whether the chunk in this range of bytes is complete."""
    size, expected = stop - start, zarray.decoded_nbytes
    file.seek(start)
    match zarray.packing:
        case None:
            return size == expected
        case "gzip":
            if size < _GZIP_LEAST or file.read(2) != _GZIP_MAGIC:
                return False
            file.seek(stop - 4)
            return int.from_bytes(file.read(4), "little") == expected % 2**32
        case "zstd":
            return _zstd_ends(file, start, stop, expected)
        case "blosc":
            length = file.read(_BLOSC.size)
            return len(length) == _BLOSC.size and _BLOSC.unpack(length) == (expected, size)
        case _:
            return size > 0


def _zstd_ends(file: BinaryIO, position: int, stop: int, expected: int) -> bool:
    """Whether zstd frames follow one another from the position to the end, and can hold the expected bytes and not many
    more: a block says its length, except that a compressed one may have any up to the largest.
    """
    start, least, most = position, 0, 0
    while position < stop:
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
            kind, length = block >> 1 & 3, block >> 3
            least += length if kind != _ZSTD_COMPRESSED else 0
            most += length if kind != _ZSTD_COMPRESSED else _ZSTD_BLOCK
            # a block of kind 1 is one byte, repeated
            position += 3 + (1 if kind == 1 else length)
            last = bool(block & 1)
        position += 4 * checksum
    return start < position == stop and least <= expected <= most <= _ZSTD_SPLIT * (expected + _ZSTD_BLOCK)
