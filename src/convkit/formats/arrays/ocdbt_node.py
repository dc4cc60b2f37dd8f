"""The bytes of an OCDBT database's tree and manifest.

Source: tensorstore's documentation of the format ("Storage format" of the driver ``ocdbt``), and what tensorstore
0.1.86 writes, which also stores the manifest's kind after the uuid, and times in nanoseconds.

A node is a magic number, its length, a body that zstd packs, and a checksum. A body holds columns: first, of all
entries, how much of its key the key before has, then the lengths of the rests, and so on. Files go by their numbers in
a table of the node. A parent could say how all keys of a node begin; here it doesn't, so that nodes hold whole keys.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from uuid import UUID

import xxhash

from convkit.formats.arrays.in_memory import CRC32C, through, zstd

_MANIFEST, _NODE = 0x0CDB3A2A, 0x0CDB20DE
_HEAD = struct.Struct(">I")
_LENGTH = struct.Struct("<Q")
_CHECKSUM = 4
#: format version 0, packed by zstd
_PACKED = bytes((0, 1))
#: zstd's level: its default, as in Orbax's databases
_LEVEL = 0
#: the longest key, and the longest path of a file
KEY_BYTES = (1 << 16) - 1
#: of a value: it lies in its node, or in a file
_HERE, _ELSEWHERE = 0, 1
#: what Orbax 0.12.8 sets: largest value that a writer puts into a node, and largest node that it makes
INLINE_BYTES, _NODE_BYTES = 1024, 100_000_000
_SINGLE_MANIFEST, _VERSION_TREE_ARITY_LOG2 = 0, 4
#: the place of a root that isn't there
_NOWHERE = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Place:
    """A range of a file, which is named by its path from the database's folder."""

    file: str
    start: int
    length: int


#: a key, and its value: bytes in the node, or a range of a file
Entry = tuple[bytes, bytes | Place]


@dataclass(frozen=True, slots=True)
class Subtree:
    """A stored node: its first key, its place, and of all that it holds the numbers of entries and bytes."""

    first: bytes
    place: Place
    height: int
    keys: int
    tree_bytes: int
    value_bytes: int


def leaf_node(entries: Sequence[Entry]) -> bytes:
    """A node of entries, whose keys ascend."""
    elsewhere = [value for _, value in entries if isinstance(value, Place)]
    here = [value for _, value in entries if isinstance(value, bytes)]
    files = _files(elsewhere)
    body = [
        bytes((0,)),
        _file_table(files),
        _varint(len(entries)),
        *_keys([key for key, _ in entries]),
        _varints(value.length if isinstance(value, Place) else len(value) for _, value in entries),
        _varints(_ELSEWHERE if isinstance(value, Place) else _HERE for _, value in entries),
        _varints(files[value.file] for value in elsewhere),
        _varints(value.start for value in elsewhere),
        *here,
    ]
    return _sealed(_NODE, b"".join(body))


def interior_node(children: Sequence[Subtree]) -> bytes:
    """A node of nodes, all of one height."""
    files = _files(child.place for child in children)
    lengths, suffixes = _keys([child.first for child in children])
    body = [
        bytes((children[0].height + 1,)),
        _file_table(files),
        _varint(len(children)),
        lengths,
        _varints(0 for _ in children),
        suffixes,
        _varints(files[child.place.file] for child in children),
        _varints(child.place.start for child in children),
        _varints(child.place.length for child in children),
        _varints(child.keys for child in children),
        _varints(child.tree_bytes for child in children),
        _varints(child.value_bytes for child in children),
    ]
    return _sealed(_NODE, b"".join(body))


def manifest(root: Subtree | None, time_ns: int) -> bytes:
    """The manifest of a database of one version, made at a time in nanoseconds since 1970; without a root it is empty.

    The database's uuid is a digest of all this, so that the same database has the same.
    """
    place = root.place if root else Place("", _NOWHERE, _NOWHERE)
    counts = (root.keys, root.tree_bytes, root.value_bytes) if root else (0, 0, 0)
    config = [
        _varint(_SINGLE_MANIFEST),
        _varint(INLINE_BYTES),
        _varint(_NODE_BYTES),
        bytes((_VERSION_TREE_ARITY_LOG2,)),
        _varint(1),
        struct.pack("<i", _LEVEL),
    ]
    versions = [
        _file_table({place.file: 0}),
        _varint(1),
        _varint(1),
        bytes((root.height if root else 0,)),
        _varints((0, place.start, place.length, *counts)),
        _LENGTH.pack(time_ns),
        # older versions
        _varint(0),
    ]
    body = b"".join(config + versions)
    return _sealed(_MANIFEST, UUID(bytes=xxhash.xxh3_128_digest(body)).bytes + body)


def _sealed(magic: int, body: bytes) -> bytes:
    """A body packed, between its header and its checksum."""
    packed = through(zstd(_LEVEL), body)
    length = _HEAD.size + _LENGTH.size + len(_PACKED) + len(packed) + _CHECKSUM
    return through(CRC32C, _HEAD.pack(magic) + _LENGTH.pack(length) + _PACKED + packed)


def _files(places: Iterable[Place]) -> dict[str, int]:
    """The numbers of files, in the order of their names."""
    return {file: number for number, file in enumerate(sorted({place.file for place in places}))}


def _file_table(files: Iterable[str]) -> bytes:
    names = [file.encode() for file in files]
    lengths, suffixes = _keys(names)
    # no part of a path is one that the files below it take over
    return b"".join((_varint(len(names)), lengths, _varints(0 for _ in names), suffixes))


def _keys(keys: Sequence[bytes]) -> tuple[bytes, bytes]:
    """Keys without what each shares with the one before: the lengths of both parts, and the rests."""
    shared = [_common(before, key) for before, key in pairwise(keys)]
    rests = [key[length:] for key, length in zip(keys, [0, *shared], strict=False)]
    return _varints(shared) + _varints(map(len, rests)), b"".join(rests)


def _common(one: bytes, other: bytes) -> int:
    length = min(len(one), len(other))
    return next((at for at in range(length) if one[at] != other[at]), length)


def _varints(numbers: Iterable[int]) -> bytes:
    return b"".join(map(_varint, numbers))


def _varint(number: int) -> bytes:
    """A number in groups of seven bits, the lowest first.

    >>> _varint(5), _varint(300)
    (b'\\x05', b'\\xac\\x02')
    """
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)
