"""Offsets of uncompressed entries in zip archives, to read or to write.

Records and fields are those of PKWARE's APPNOTE 6.3.10, sections 4.3 and 4.5.3 (Zip64). Python's zipfile reads
archives, but it can't lay one out whose entries are filled later, in any order.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO
from zipfile import ZIP_STORED, BadZipFile, ZipInfo

from convkit.errors import ConvkitError

#: from this size, offset or count on, Zip64 records hold it, and the fields of 4 or 2 bytes are all ones
LIMIT32 = 0xFFFFFFFF
LIMIT16 = 0xFFFF

#: torch aligns its entries to this, padding with an extra field named "FB" (caffe2/serialize/inline_container.cc)
ALIGNMENT = 64

#: offset of the CRC-32 in an entry's local header
CRC_FIELD = 14

_LOCAL = struct.Struct("<4s5H3L2H")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_NEW_YEAR_1980 = 1 << 5 | 1


@dataclass(frozen=True, slots=True)
class Entry:
    """An uncompressed entry: the offsets of its local header and its first byte, and its size."""

    name: str
    header: int
    start: int
    size: int
    #: the CRC-32 that the archive's directory has; 0 also where its writer computed none
    crc: int = 0

    @property
    def end(self) -> int:
        """The offset after its last byte."""
        return self.start + self.size


def place(name: str, header: int, size: int) -> Entry:
    """The entry with its local header at this offset and its bytes aligned."""
    unpadded = header + _LOCAL.size + len(name.encode()) + (20 if size >= LIMIT32 else 0) + 4
    return Entry(name, header, unpadded + -unpadded % ALIGNMENT, size)


def local_header(entry: Entry, crc: int = 0) -> bytes:
    """The entry's local header, padding included."""
    name = entry.name.encode()
    big = entry.size >= LIMIT32
    extra = struct.pack("<2H2Q", 1, 16, entry.size, entry.size) if big else b""
    padding = entry.start - entry.header - _LOCAL.size - len(name) - len(extra) - 4
    extra += struct.pack("<4s", b"FB" + padding.to_bytes(2, "little")) + bytes(padding)
    size = _field32(entry.size)
    version = 45 if big else 20
    fixed = (b"PK\3\4", version, 0, ZIP_STORED, 0, _NEW_YEAR_1980, crc, size, size, len(name), len(extra))
    return _LOCAL.pack(*fixed) + name + extra


def directory(entries: Sequence[Entry], crcs: Sequence[int], start: int) -> bytes:
    """The end of the archive: the central directory, which starts at ``start``, and the end records."""
    out = bytearray()
    for entry, crc in zip(entries, crcs, strict=True):
        name = entry.name.encode()
        big = [number for number in (entry.size, entry.size, entry.header) if number >= LIMIT32]
        extra = struct.pack(f"<2H{len(big)}Q", 1, 8 * len(big), *big) if big else b""
        size, offset = _field32(entry.size), _field32(entry.header)
        version = 45 if big else 20
        fixed = (b"PK\1\2", version, version, 0, ZIP_STORED, 0, _NEW_YEAR_1980, crc, size, size, len(name), len(extra))
        out += _CENTRAL.pack(*fixed, 0, 0, 0, 0, offset) + name + extra
    count, length = len(entries), len(out)
    if count >= LIMIT16 or start >= LIMIT32 or length >= LIMIT32:
        out += struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, length, start)
        out += struct.pack("<4sLQL", b"PK\6\7", 0, start + length, 1)
    few = 0xFFFF if count >= LIMIT16 else count
    return bytes(out) + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, few, few, _field32(length), _field32(start), 0)


def find(file: BinaryIO, size: int, info: ZipInfo) -> Entry:
    """Offset of the bytes of an entry that zipfile found in the directory.

    Args:
        file: the archive.
        size: its bytes.
        info: the entry.

    Raises:
        BadZipFile: outside the file.
        ConvkitError: compressed or encrypted, as torch never writes it.
    """
    if info.compress_type != ZIP_STORED or info.flag_bits & 1:
        how, remedy = ("encrypted", "decrypt it") if info.flag_bits & 1 else ("compressed", "zip it uncompressed")
        raise ConvkitError(
            f"was zipped again: its record {info.filename} is {how}",
            remedy=f"{remedy}, or load it with torch.load and save it with torch.save",
        )
    file.seek(info.header_offset)
    raw = file.read(_LOCAL.size)
    if len(raw) < _LOCAL.size or raw[:4] != b"PK\3\4":
        raise BadZipFile(f"the entry {info.filename} has no header")
    *_, name_length, extra_length = _LOCAL.unpack(raw)
    start = info.header_offset + _LOCAL.size + name_length + extra_length
    if start + info.file_size > size:
        raise BadZipFile(f"the entry {info.filename} ends outside the file")
    return Entry(info.filename, info.header_offset, start, info.file_size, info.CRC)


def _field32(number: int) -> int:
    return 0xFFFFFFFF if number >= LIMIT32 else number
