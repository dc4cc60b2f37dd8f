"""Lists the keys of an OCDBT database and where their values lie, without reading the values.

``manifest.ocdbt`` names the root of a tree. Its nodes, and all values except small ones, are ranges of files; a small
value lies in its node. Sources: tensorstore's documentation of the format, and ``tensorstore.ocdbt.dump`` (0.1.86),
which spells a location ``value:<folder>:<file>:<offset>:<length>`` with percent-encoded names.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from convkit.errors import ConvkitError
from convkit.formats.arrays.store import file_store, store_error

MANIFEST = "manifest.ocdbt"
_REFETCH = "fetch the checkpoint again"
#: most levels of the tree of a database, against one that holds itself: each level multiplies the entries by a hundred
DEPTH_LIMIT = 16
#: most entries of a database: a million chunks
ENTRY_LIMIT = 1 << 20
#: a manifest's first bytes; before the format's release zstd's magic stood at offset 6, where a length stands now
_MAGIC, _ZSTD_MAGIC = b"\x0c\xdb\x3a\x2a", b"\x28\xb5\x2f\xfd"


@dataclass(frozen=True, slots=True)
class Entry:
    """The value of a key: bytes in the tree, or a range of a file."""

    inline: bytes | None
    file: Path | None = None
    start: int = 0
    stop: int = 0

    def value(self) -> bytes:
        """The bytes.

        Raises:
            OSError: the file can't be read.
        """
        if self.file is None:
            return self.inline or b""
        with self.file.open("rb") as file:
            file.seek(self.start)
            return file.read(self.stop - self.start)


def read_entries(folder: Path, files: dict[Path, int] | None = None, *, whole: bool = True) -> dict[str, Entry]:
    """All entries of the database's last version, by key.

    Args:
        files: filled with the files of the database and their sizes in bytes.
        whole: require every value to be present; otherwise files may be missing or too short for their values.

    Raises:
        ConvkitError: no manifest, one of the format before its release, a damaged tree, or a file that is missing or
        shorter than the tree says.
    """
    import tensorstore

    files = {} if files is None else files
    files[folder / MANIFEST] = _check_manifest(folder)
    try:
        store = tensorstore.KvStore.open(file_store(folder)).result()
        root = tensorstore.ocdbt.dump(store).result()["versions"][-1]["root"].get("location")
        if not root:
            return {}
        return dict(_Walk(folder, store, files if whole else None, count()).below(root))
    except (ValueError, OSError, KeyError, IndexError) as error:
        raise store_error(error, str(folder)) from None


def database_time(folder: Path) -> int:
    """The time that the database's last version is of, in nanoseconds since 1970.

    Raises:
        ConvkitError: no manifest, or a damaged one.
    """
    import tensorstore

    _check_manifest(folder)
    try:
        store = tensorstore.KvStore.open(file_store(folder)).result()
        return int(tensorstore.ocdbt.dump(store).result()["versions"][-1]["commit_time"])
    except (ValueError, OSError, KeyError, IndexError) as error:
        raise store_error(error, str(folder)) from None


@dataclass(frozen=True, slots=True)
class _Walk:
    """Walks a database's tree; ``sizes`` as in :func:`_place`, ``seen`` counts the entries of all nodes."""

    folder: Path
    store: Any
    sizes: dict[Path, int] | None
    seen: Iterator[int]

    def below(self, location: str, above: tuple[bytes, ...] = ()) -> Iterator[tuple[str, Entry]]:
        """The entries below a node; ``above`` holds the part of their keys that each node above says.

        Raises:
            ConvkitError: over :data:`DEPTH_LIMIT` or :data:`ENTRY_LIMIT`.
        """
        import tensorstore

        if len(above) > DEPTH_LIMIT:
            raise self._over(f"the database's tree has over {DEPTH_LIMIT} levels")
        _place(self.folder, location, self.sizes)
        prefix = b"".join(above)
        for found in tensorstore.ocdbt.dump(self.store, location).result()["entries"]:
            if next(self.seen) >= ENTRY_LIMIT:
                raise self._over(f"the database has over {ENTRY_LIMIT} entries")
            key = prefix + found["key"]
            if "location" in found:
                yield from self.below(found["location"], (*above, found["subtree_common_prefix"]))
            elif "inline_value" in found:
                yield key.decode(), Entry(found["inline_value"])
            else:
                yield key.decode(), Entry(None, *_place(self.folder, found["indirect_value"], self.sizes))

    def _over(self, problem: str) -> ConvkitError:
        return ConvkitError(f"{problem}, the most that are read", path=self.folder, remedy=_REFETCH)


def _place(folder: Path, location: str, sizes: dict[Path, int] | None) -> tuple[Path, int, int]:
    """The file and range that a location names; with ``sizes``, after checking that they exist."""
    _, base, name, start, length = location.split(":")
    file, stop = folder / unquote(base) / unquote(name), int(start) + int(length)
    if sizes is None:
        return file, int(start), stop
    if file not in sizes:
        if not file.parent.is_dir():
            raise ConvkitError(f"{file.parent.relative_to(folder)} is missing", path=folder, remedy=_REFETCH)
        if not file.is_file():
            raise ConvkitError("is missing", path=file, remedy=_REFETCH)
        sizes[file] = file.stat().st_size
    if stop > sizes[file]:
        raise ConvkitError(f"is truncated: {sizes[file]} bytes, of at least {stop}", path=file, remedy=_REFETCH)
    return file, int(start), stop


def _check_manifest(folder: Path) -> int:
    """Check the manifest's format, and return its size in bytes."""
    path = folder / MANIFEST
    if not path.is_file():
        raise ConvkitError(
            f"{MANIFEST} is missing", path=folder, remedy="the save was interrupted, or the copy: fetch it again"
        )
    with path.open("rb") as file:
        head = file.read(10)
    if head.startswith(_MAGIC) and head[6:] == _ZSTD_MAGIC:
        raise ConvkitError(
            "is of the OCDBT format before its release, which tensorstore can read up to 0.1.35",
            path=path,
            remedy="load it with tensorstore 0.1.35 and the Orbax release that wrote it, and save it without OCDBT",
        )
    return path.stat().st_size
