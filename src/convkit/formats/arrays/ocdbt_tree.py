"""Files of an OCDBT database as convkit writes it: data files named by what they hold, the tree, and the manifest.

OCDBT relies on it that a data file never changes: tensorstore names files at random, and keeps what it read of one for
as long as a process runs. Here a file's name is a digest of its bytes (xxh3-128, 32 hexadecimal digits as tensorstore
has them). So the same values in the same order give the same names, and a checkpoint that replaces another in its place
has other names where it has other bytes, which a name from the plan wouldn't do for other weights in the same plan.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import xxhash

from convkit.files.room import write_at
from convkit.formats.arrays.folders import write_file
from convkit.formats.arrays.ocdbt_entries import MANIFEST
from convkit.formats.arrays.ocdbt_node import Entry, Place, Subtree, interior_node, leaf_node, manifest

#: the folder of data files
DATA = "d"
#: length of the path of a data file: a folder, and 128 bits in hexadecimal digits
NAME_BYTES = len(DATA) + 1 + 32
#: bytes of a data file from which on values go into another one, as in Orbax's databases
FILE_BYTES = 2 << 30
#: bytes of a node before it is packed: what a reader of one array has to unpack on each level
NODE_BYTES = 1 << 20
#: about what an entry takes besides its key and its value
_ENTRY_BYTES = 16

_T = TypeVar("_T")


class DataFile:
    """A data file that is being written, under another name until its bytes are known; usable as a context manager.

    Args:
        top: the database's folder.
        path: where it is written, on the same disk.
    """

    def __init__(self, top: Path, path: Path) -> None:
        self._top = top
        self.path = path
        self._file = path.open("w+b", buffering=0)
        self._digest = xxhash.xxh3_128()
        self.size = 0

    def append(self, pieces: Iterable[bytes | memoryview]) -> tuple[int, int]:
        """Write at the end; returns the start and the length."""
        start = self.size
        for piece in pieces:
            write_at(self._file.fileno(), self.size, piece)
            self._digest.update(piece)
            self.size += len(piece)
        return start, self.size - start

    def read(self, start: int, length: int) -> bytes:
        """Bytes that were written."""
        return os.pread(self._file.fileno(), length, start)

    def complete(self) -> str:
        """Give the file its name, and return it. A file of this name has the same bytes."""
        self._file.close()
        name = f"{DATA}/{self._digest.hexdigest()}"
        (self._top / DATA).mkdir(exist_ok=True)
        self.path.replace(self._top / name)
        return name

    def close(self) -> None:
        """Give the file up, unless it is complete."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class Shared:
    """Values one after another in data files, each begun when the one before is full."""

    def __init__(self, top: Path, path: Path) -> None:
        self._top, self._path = top, path
        self._file: DataFile | None = None
        self._names: list[str] = []

    def add(self, value: bytes) -> None:
        """Write a value."""
        if self._file and self._file.size + len(value) > FILE_BYTES:
            self._names.append(self._file.complete())
            self._file = None
        self._file = self._file or DataFile(self._top, self._path)
        self._file.append([value])

    def complete(self) -> list[str]:
        """The names of the files, in order."""
        if self._file:
            self._names.append(self._file.complete())
        return self._names


class SharedPlaces:
    """Where values lie in files that :class:`Shared` filled, asked for in the order in which they were added."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._number = self._at = 0

    def next(self, length: int) -> Place:
        """The place of the next value, of this length."""
        if self._at and self._at + length > FILE_BYTES:
            self._number, self._at = self._number + 1, 0
        self._at += length
        return Place(self._names[self._number], self._at - length, length)


def write_database(top: Path, scratch: Path, entries: Iterable[Entry], time_ns: int) -> set[str]:
    """Write tree and manifest over entries, whose keys ascend; returns the names of the tree's files.

    Levels are written one after another, each into a file: a node says the names of the files below it.

    Args:
        top: the database's folder.
        scratch: where files are begun.
        entries: read once.
        time_ns: the time that the database is said to be of, in nanoseconds since 1970.
    """
    level = _level(top, scratch, _cut(entries, _entry_bytes, 1), _of_entries)
    files = {node.place.file for node in level}
    while len(level) > 1:
        level = _level(top, scratch, _cut(level, _child_bytes, 2), _of_nodes)
        files |= {node.place.file for node in level}
    write_file(top / MANIFEST, manifest(level[0] if level else None, time_ns))
    return files


def _level(
    top: Path, scratch: Path, groups: Iterable[list[_T]], made: Callable[[list[_T]], tuple[bytes, Subtree]]
) -> list[Subtree]:
    """Write the nodes of one level into a file; each is returned with its place."""
    nodes = []
    with ExitStack() as stack:
        file = None
        for group in groups:
            file = file or stack.enter_context(DataFile(top, scratch / "tree"))
            data, node = made(group)
            nodes.append((node, *file.append([data])))
        name = file.complete() if file else ""
    return [
        Subtree(
            node.first, Place(name, start, length), node.height, node.keys, node.tree_bytes + length, node.value_bytes
        )
        for node, start, length in nodes
    ]


def _of_entries(entries: list[Entry]) -> tuple[bytes, Subtree]:
    values = sum(value.length for _, value in entries if isinstance(value, Place))
    return leaf_node(entries), Subtree(entries[0][0], _UNPLACED, 0, len(entries), 0, values)


def _of_nodes(children: list[Subtree]) -> tuple[bytes, Subtree]:
    keys, tree_bytes, value_bytes = (
        sum(getattr(child, name) for child in children) for name in ("keys", "tree_bytes", "value_bytes")
    )
    node = Subtree(children[0].first, _UNPLACED, children[0].height + 1, keys, tree_bytes, value_bytes)
    return interior_node(children), node


_UNPLACED = Place("", 0, 0)


def _entry_bytes(entry: Entry) -> int:
    key, value = entry
    return _ENTRY_BYTES + len(key) + (len(value) if isinstance(value, bytes) else 0)


def _child_bytes(child: Subtree) -> int:
    return 2 * _ENTRY_BYTES + len(child.first)


def _cut(parts: Iterable[_T], nbytes: Callable[[_T], int], least: int) -> Iterator[list[_T]]:
    """Cut into groups of at most :data:`NODE_BYTES`, but of ``least`` parts."""
    group: list[_T] = []
    held = 0
    for part in parts:
        size = nbytes(part)
        if len(group) >= least and held + size > NODE_BYTES:
            yield group
            group, held = [], 0
        group.append(part)
        held += size
    if group:
        yield group
