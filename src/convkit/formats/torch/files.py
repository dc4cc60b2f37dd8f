"""Opens files of ``torch.save`` without torch: the pickle's data, and the offset of each storage.

Two containers (torch 2.13, ``torch/serialization.py``): since 1.6 a zip archive with ``data.pkl``, ``byteorder`` and
one uncompressed entry ``data/<key>`` per storage; before, a series of pickles (magic number, protocol, system, the
object, the storages' keys), then every storage, preceded by its length.
"""

from __future__ import annotations

import zlib
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

from convkit.errors import ConvkitError
from convkit.formats.torch.pickle import load
from convkit.formats.torch.zip_places import find

ZIP_MAGIC = b"PK\3\4"
#: the magic number 0x1950A86A20F9469CFC6C, pickled, near the start of files before torch 1.6
LEGACY_MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."

#: two million tensors need less; a compressed pickle that unpacks to more is a bomb
PICKLE_LIMIT = 1 << 28

_REFETCH = "fetch the file again"

#: a storage's key -> offset of its first byte, and its length in bytes
Spans = dict[str, tuple[int, int]]


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
        with file.open("rb") as opened, ZipFile(opened) as archive:
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
            if root + "byteorder" in infos and archive.read(root + "byteorder") != b"little":
                raise ConvkitError("is big-endian", path=file, remedy="save it anew on a little-endian machine")
            if infos[root + "data.pkl"].file_size > PICKLE_LIMIT:
                raise BadZipFile(f"data.pkl is over {PICKLE_LIMIT} bytes")
            pickle = archive.read(root + "data.pkl")
            prefix = root + "data/"
            entries = {
                name.removeprefix(prefix): find(opened.fileno(), info)
                for name, info in infos.items()
                if name.startswith(prefix)
            }
    except (BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError, OSError, zlib.error) as error:
        raise ConvkitError(f"isn't a complete file of torch.save: {error}", path=file, remedy=_REFETCH) from error
    data, _ = load(pickle, file)
    return data, {key: (entry.start, entry.size) for key, entry in entries.items()}


def _read_legacy(file: Path) -> tuple[Any, Spans]:
    with file.open("rb") as opened, mmap(opened.fileno(), 0, access=ACCESS_READ) as stream:
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
            if length != storage.numel or stream.tell() + storage.nbytes > len(stream):
                raise ConvkitError(f"is truncated, or corrupt, at storage {key}", path=file, remedy=_REFETCH)
            spans[key] = (stream.tell(), storage.nbytes)
            stream.seek(storage.nbytes, 1)
    return data, spans
