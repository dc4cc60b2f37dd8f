"""Notice that a source's files change while they are read: by what the system says of each, before and after.

A :class:`Watch` is made before a source is opened, so that nothing is read from a file whose state isn't known. What
the system says of a file changes with every write through ``write``, with every new file in its place, and when its
times are set. It may be late for a writer that holds the file in a memory map.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from msgspec import Struct

from convkit.checkpoint.source_files import Ranged
from convkit.errors import ConvkitError


class State(Struct, frozen=True):
    """What the system says of a file, links followed: times in nanoseconds, ``size`` in bytes, its number of names."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    names: int

    @classmethod
    def of(cls, found: os.stat_result) -> State:
        """What ``stat`` says."""
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_nlink)

    def is_that_of(self, other: State) -> bool:
        """Whether nothing was written between the two: all is equal, or the file got or lost only a name.

        A new name (a hard link) sets ``ctime_ns``; migrations and backups make some.
        """
        same = (self.device, self.inode, self.size, self.mtime_ns) == (
            other.device,
            other.inode,
            other.size,
            other.mtime_ns,
        )
        return same and (self.ctime_ns == other.ctime_ns or self.names != other.names)


def state_of(path: Path) -> State | None:
    """The state of a file; None where there is none."""
    try:
        return State.of(path.stat())
    except (FileNotFoundError, NotADirectoryError):
        return None


def identities(files: Iterable[Path]) -> list[list[Any]]:
    """What cheaply says that files are others than before, and never for sure that they are the same.

    ``ctime`` is left out: it changes with each new name of a file.
    """
    found = []
    for path in files:
        state = State.of(path.stat())
        found.append([str(path.absolute()), state.device, state.inode, state.size, state.mtime_ns])
    return found


def seen_anywhere(folder: Path, files: Iterable[Path]) -> list[list[Any]]:
    """The same for files that several machines see: without the device, which each machine numbers by itself, and by
    their paths below a folder, which may be mounted elsewhere.
    """
    found = []
    for path in files:
        state = State.of(path.stat())
        name = path.relative_to(folder) if path.is_relative_to(folder) else path
        found.append([str(name), state.inode, state.size, state.mtime_ns])
    return found


class Watch:
    """The files of a source, each with the state that it had first.

    Args:
        path: the file or folder that will be opened. What lies in the folder, or beside the file, is looked at now.
        known: states of files from before, for those that were looked at already.
    """

    def __init__(self, path: Path, known: Mapping[Path, State] | None = None) -> None:
        #: the files that must not change
        self._read: dict[Path, State | None] = {file.absolute(): state for file, state in (known or {}).items()}
        self._first: dict[Path, State | None] = {file: state_of(file) for file in _around(path)} | self._read

    def reads(self, files: Iterable[Path]) -> None:
        """From now on these files count; a folder stands for the files that it held first."""
        for file in files:
            path = file.absolute()
            if path.is_dir():
                self._read |= {one: state for one, state in self._first.items() if path in one.parents}
            else:
                self._read[path] = self._first[path] if path in self._first else state_of(path)

    def identities(self) -> list[list[Any]]:
        """Of the files that count and are there, what :func:`identities` gives, as they were first."""
        known = ((file, state) for file, state in self._read.items() if state is not None)
        return [[str(file), state.device, state.inode, state.size, state.mtime_ns] for file, state in known]

    def check(self) -> None:
        """Check that no file has changed.

        Raises:
            ConvkitError: one has.
        """
        for path in self._read:
            if isinstance(path, Ranged):
                path.forget()
        for path, first in self._read.items():
            now = state_of(path)
            if now != first and not (now and first and now.is_that_of(first)):
                raise ConvkitError(
                    "changed while it was read" if now else "is gone since it was read",
                    path=path,
                    remedy="let nothing write to the source, and start again",
                )


@contextmanager
def same_objects(*paths: Path) -> Iterator[None]:
    """Check at the end that no object at the paths that lead into stores is another one than at the beginning.

    Some of what reads them, such as tensorstore, doesn't say which version it expects.

    Raises:
        ConvkitError: one is; also instead of an error that may come of it.
    """
    watches = [(path, Watch(path)) for path in paths if isinstance(path, Ranged)]
    for path, watch in watches:
        watch.reads([path])
    try:
        yield
    except ConvkitError:
        for _, watch in watches:
            watch.check()
        raise
    for _, watch in watches:
        watch.check()


def _around(path: Path) -> Iterator[Path]:
    """The files below a folder, or beside a file."""
    path = path.absolute()
    if isinstance(path, Ranged):  # what lies beside an object may be a whole bucket
        yield from (file for file in path.rglob("*") if file.is_file())
        return
    if path.is_dir():
        for folder, _, names in os.walk(path):
            yield from (Path(folder, name) for name in names)
        return
    with suppress(OSError), os.scandir(path.parent) as entries:
        yield from (Path(entry.path) for entry in entries if entry.is_file())
