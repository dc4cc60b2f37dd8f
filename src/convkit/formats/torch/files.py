"""Opens files of ``torch.save`` without torch: the pickle's data, and the offset of each storage.

Two containers (torch 2.13, ``torch/serialization.py``): since 1.6 a zip archive with ``data.pkl``, ``byteorder`` and
one uncompressed entry ``data/<key>`` per storage; before, a series of pickles (magic number, protocol, system, the
object, the storages' keys), then every storage, preceded by its length.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection
from copy import copy
from functools import partial
from io import BufferedReader
from itertools import pairwise
from os import SEEK_CUR
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from convkit.errors import ConvkitError
from convkit.formats.torch.pickle import load
from convkit.formats.torch.zip_places import Entry, find
from convkit.state.pickle_machine import BYTES_LIMIT

ZIP_MAGIC = b"PK\3\4"
#: the magic number 0x1950A86A20F9469CFC6C, pickled, near the start of files before torch 1.6
LEGACY_MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."

#: most bytes of the entry ``byteorder``: it holds "little" or "big"
BYTEORDER_LIMIT = 16
#: most bytes of an archive's directory: the names of half a million storages, which take a kilobyte each in memory
DIRECTORY_LIMIT = 1 << 25

#: bytes unpacked at once
_PIECE = 1 << 20

_REFETCH = "fetch the file again"

#: a storage's key -> offset of its first byte, its length in bytes, and its name and CRC-32 where an archive has them
Spans = dict[str, tuple[int, int, str, int]]


def read(file: Path) -> tuple[Any, Spans]:
    """The data of a file, as :func:`convkit.formats.torch.pickle.load` returns it, and its storages.

    Raises:
        ConvkitError: not a torch file, corrupt, big-endian, or a pickle that would run code.
    """
    with file.open("rb") as opened:
        start = opened.read(32)
    if start.startswith(ZIP_MAGIC):
        return _read_zip(file)
    if LEGACY_MAGIC in start:
        return _read_legacy(file)
    raise ConvkitError(
        "isn't a file of torch.save: neither a zip archive nor its older format", path=file, remedy=_REFETCH
    )


def _read_zip(file: Path) -> tuple[Any, Spans]:
    try:
        with ArchiveFile(file) as opened, ZipFile(opened) as archive:
            infos = {info.filename: info for info in archive.infolist()}
            if len(infos) != len(archive.infolist()):
                raise BadZipFile("two entries have one name")
            roots = [
                name.removesuffix("data.pkl") for name in infos if name.count("/") == 1 and name.endswith("/data.pkl")
            ]
            if len(roots) != 1:
                raise BadZipFile("it has no data.pkl")
            root = roots[0]
            if root + "constants.pkl" in infos:
                raise ConvkitError("is a TorchScript program", path=file, remedy="save the state_dict of the model")
            byteorder = infos.get(root + "byteorder")
            if byteorder is not None and _unpacked(archive, byteorder, BYTEORDER_LIMIT) != b"little":
                raise ConvkitError("is big-endian", path=file, remedy="save it anew on a little-endian machine")
            pickle = _unpacked(archive, infos[root + "data.pkl"], BYTES_LIMIT)
            prefix = root + "data/"
            entries = {
                name.removeprefix(prefix): find(opened, opened.size, info)
                for name, info in infos.items()
                if name.startswith(prefix)
            }
            _check_apart(entries.values())
    except ConvkitError as error:
        raise ConvkitError(error.problem, path=file, remedy=error.remedy) from None
    except (
        BadZipFile,
        NotImplementedError,
        RuntimeError,
        EOFError,
        ValueError,
        OSError,
        OverflowError,
        zlib.error,
    ) as error:
        raise ConvkitError(f"isn't a complete file of torch.save: {error}", path=file, remedy=_REFETCH) from error
    data, _ = load(pickle, file)
    return data, {key: (entry.start, entry.size, entry.name, entry.crc) for key, entry in entries.items()}


class ArchiveFile(BufferedReader):
    """An archive's file. ``zipfile`` reads the whole directory at once: no read may be larger than that may be."""

    def __init__(self, file: Path) -> None:
        super().__init__(file.open("rb", buffering=0))
        self.size = file.stat().st_size

    def read(self, count: int | None = -1, /) -> bytes:
        """The next bytes.

        Raises:
            BadZipFile: more than :data:`DIRECTORY_LIMIT`.
        """
        if count is None or count < 0:
            count = self.size - self.tell()
        if count > DIRECTORY_LIMIT:
            raise BadZipFile(f"its directory has {count} bytes, over {DIRECTORY_LIMIT}, the most that are read")
        return super().read(count)


def _unpacked(archive: ZipFile, info: ZipInfo, limit: int) -> bytes:
    """The bytes of an entry, of which no more are unpacked than its size says, and than ``limit``.

    Raises:
        BadZipFile: larger, or compressed by a method that unpacks more than it is asked for.
    """
    if info.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
        raise BadZipFile(f"the entry {info.filename} is compressed by method {info.compress_type}")
    if info.file_size > limit:
        raise BadZipFile(f"the entry {info.filename} has {info.file_size} bytes, over {limit}, the most that are read")
    if not info.CRC:  # torch writes 0 where it was asked to compute none, and zipfile would compare it
        info = copy(info)
        del info.CRC
    with archive.open(info) as entry:
        return b"".join(iter(partial(entry.read, _PIECE), b""))


def _check_apart(entries: Collection[Entry]) -> None:
    """Check that no two entries share bytes, or a small file would be read as a large checkpoint.

    Raises:
        BadZipFile: two do.
    """
    for before, after in pairwise(sorted(entries, key=lambda entry: (entry.header, entry.end))):
        if before.end > after.header:
            raise BadZipFile(f"the entries {before.name} and {after.name} share bytes")


def _read_legacy(file: Path) -> tuple[Any, Spans]:
    with file.open("rb") as stream:
        size = file.stat().st_size
        _magic, protocol, system = (load(stream, file)[0] for _ in range(3))
        if protocol != 1001 or not isinstance(system, dict) or system.get("little_endian") is not True:
            raise ConvkitError(
                "is big-endian, or of an unknown protocol", path=file, remedy="save it anew with torch 2"
            )
        data, storages = load(stream, file)
        keys, _ = load(stream, file)
        spans: Spans = {}
        for key in keys if isinstance(keys, list) else []:
            if not isinstance(key, str) or key not in storages:
                raise ConvkitError("holds a storage that no tensor uses", path=file, remedy=_REFETCH)
            length = int.from_bytes(stream.read(8), "little")
            storage = storages[key]
            if length != storage.numel or stream.tell() + storage.nbytes > size:
                raise ConvkitError(f"is truncated, or corrupt, at storage {key}", path=file, remedy=_REFETCH)
            spans[key] = (stream.tell(), storage.nbytes, "", 0)
            stream.seek(storage.nbytes, SEEK_CUR)
    return data, spans
