"""Paths in stores, which readers use as they use paths on this machine.

A :class:`StorePath` is a ``pathlib`` path whose first part names its store, so that the paths made of it (``/``,
``parent``, ``with_name``) lead into the same one. What only a file on this machine has, such as a descriptor or a place
for the libraries that open files themselves, is refused with the remedy.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
from collections.abc import Generator
from fnmatch import fnmatchcase
from pathlib import Path, PosixPath
from typing import Any, Self
from urllib.parse import urlsplit

from convkit.checkpoint.source_files import Ranged
from convkit.errors import UsageError
from convkit.files.stores.blocks import BLOCKS, PAGES
from convkit.files.stores.failures import MissingError
from convkit.files.stores.hub import pinned
from convkit.files.stores.objects import UNFINISHED, Objects
from convkit.files.stores.store import ROOTS, Object, Store
from convkit.files.stores.web import Web, within
from convkit.files.uri import scheme_of, without_secrets

#: bytes that are requested at once of what is read in small pieces: headers, texts, directories
_BUFFER = 64 << 10


def opened(uri: str) -> StorePath:
    """The path that a URI names. Nothing is looked up yet, except the commit of a branch of the Hugging Face Hub.

    Raises:
        UsageError: the URI is malformed, or of a scheme that isn't known.
        ConvkitError: the Hub doesn't say the commit.
    """
    scheme = str(scheme_of(uri))
    if scheme in ("http", "https"):
        try:
            return StorePath(ROOTS.add(scheme, Web(uri)), *within(uri).split("/"))
        except ValueError as error:  # urllib rejects a bracket or a port; its message may contain a password
            raise UsageError("isn't a URI", path=f"{scheme}://...", remedy="check its host and port") from error
    parts = urlsplit(uri)
    if parts.query or parts.fragment:
        raise UsageError(
            "has a query, which isn't read without a copy", path=without_secrets(uri), remedy="fetch it first"
        )
    if scheme == "hf":
        uri = pinned(uri)
        parts = urlsplit(uri)
    authority = parts.netloc if scheme == "hf" else parts.netloc.rpartition("@")[2]
    top = f"{authority}{parts.path}".strip("/")
    if not top:
        raise UsageError("names no object", path=without_secrets(uri), remedy=f"write {scheme}://bucket/path")
    return StorePath(ROOTS.add(scheme, Objects(uri, top)), *top.split("/"))


class StorePath(PosixPath, Ranged):
    """A path in a store."""

    @property
    def store(self) -> Store:
        """What it leads into."""
        return ROOTS[self.parts[0]]

    @property
    def inside(self) -> str:
        """The path within the store."""
        return "/".join(self.parts[1:])

    @property
    def found(self) -> Object:
        """The object as it was when it was first looked at.

        Raises:
            MissingError: there is none.
        """
        return self.store.pinned(self.inside)

    def __str__(self) -> str:
        return self.store.shown(self.inside)

    def as_posix(self) -> str:
        """Its URI."""
        return str(self)

    def relative_to(self, *other: Any, **_: Any) -> Any:
        """The rest of the path, below another one of the same store."""
        above = other[0] if len(other) == 1 and isinstance(other[0], Path) else type(self)(*other)
        return PosixPath(*self.parts).relative_to(PosixPath(*above.parts))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def __fspath__(self) -> str:
        raise UsageError(
            "can't be read without a copy here: what it is needed for opens files of this machine only",
            path=str(self),
            remedy="fetch it first: convkit fetch, or fetch = local in the table",
        )

    # --- what is there -------------------------------------------------------------------------------

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """What the store says of it: its size and the second of its change; its number (inode) stands for its tag.

        Raises:
            FileNotFoundError: nothing is there.
        """
        try:
            found = self.store.look(self.inside)
        except MissingError as error:
            raise FileNotFoundError(2, "No such file or directory", str(self)) from error
        if found is None:
            return os.stat_result((stat.S_IFDIR | 0o555, 0, 0, 1, 0, 0, 0, 0, 0, 0))
        number = int.from_bytes(hashlib.sha256(found.tag.encode()).digest()[:7], "big")
        times = {"st_mtime_ns": found.changed * 10**9, "st_ctime_ns": found.changed * 10**9}
        seconds = (found.changed,) * 3
        return os.stat_result((stat.S_IFREG | 0o444, number, 0, 1, 0, 0, found.size, *seconds), times)

    def exists(self, *, follow_symlinks: bool = True) -> bool:
        """Whether anything is there."""
        try:
            self.stat()
        except FileNotFoundError:
            return False
        return True

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        """Whether it is a folder."""
        return self.exists() and stat.S_ISDIR(self.stat().st_mode)

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        """Whether it is an object."""
        return self.exists() and stat.S_ISREG(self.stat().st_mode)

    def is_symlink(self) -> bool:
        """Never."""
        return False

    def is_absolute(self) -> bool:
        """Always."""
        return True

    def absolute(self) -> Self:
        """Itself."""
        return self

    def resolve(self, strict: bool = False) -> Self:
        """Itself."""
        return self

    def samefile(self, other_path: Any) -> bool:
        """Whether both are the same object."""
        return isinstance(other_path, StorePath) and str(self) == str(other_path)

    def iterdir(self) -> Generator[Self, None, None]:
        """The paths in a folder."""
        if not self.is_dir():
            raise NotADirectoryError(20, "Not a directory", str(self))
        return (self / name for name in self.store.names(self.inside))

    def glob(self, pattern: str, **_: Any) -> Generator[Self, None, None]:
        """The paths below whose last parts match those of a pattern."""
        name, _sep, rest = pattern.partition("/")
        inner = (path for path in (self.iterdir() if self.is_dir() else ()) if fnmatchcase(path.name, name))
        for path in inner:
            yield from path.glob(rest) if rest else (path,)

    def rglob(self, pattern: str, **_: Any) -> Generator[Self, None, None]:
        """The paths below, at any depth, whose names match."""
        for path in self.iterdir() if self.is_dir() else ():
            if fnmatchcase(path.name, pattern):
                yield path
            if path.is_dir():
                yield from path.rglob(pattern)

    # --- what it holds -------------------------------------------------------------------------------

    def open(self, mode: str = "r", buffering: int = -1, *text: Any, **options: Any) -> Any:
        """Open it to read, as :meth:`pathlib.Path.open`.

        Raises:
            OSError: it isn't there, or is to be written.
        """
        if "w" in mode or "a" in mode or "x" in mode or "+" in mode:
            raise PermissionError(30, "Read-only: a store is a source here", str(self))
        if not stat.S_ISREG(self.stat().st_mode):
            raise IsADirectoryError(21, "Is a directory", str(self))
        raw = _Reading(self)
        if "b" not in mode:
            return io.TextIOWrapper(io.BufferedReader(raw, _BUFFER), *text, **options)
        return raw if buffering == 0 else io.BufferedReader(raw, max(buffering, _BUFFER))

    def unlink(self, missing_ok: bool = False) -> None:
        """Refuse it, if anything is there.

        Raises:
            OSError: something is.
        """
        if self.exists():
            raise PermissionError(30, "Read-only: a store is a source here", str(self))

    def read_bytes(self) -> bytes:
        """All its bytes."""
        return self.store.read(self.inside, 0, size) if (size := self.stat().st_size) else b""

    def read_text(self, encoding: str | None = None, errors: str | None = None, newline: str | None = None) -> str:
        """All its text."""
        with self.open("r", encoding=encoding, errors=errors, newline=newline) as file:
            return str(file.read())

    def fill(self, offset: int, into: memoryview) -> int:
        """See :meth:`Ranged.fill`."""
        return BLOCKS.fill(self.store, self.inside, offset, into)

    def scattered(self) -> io.RawIOBase:
        """See :meth:`Ranged.scattered`."""
        return _Scattered(self)

    @property
    def version(self) -> str:
        """See :attr:`Ranged.version`."""
        return self.found.tag

    def forget(self) -> None:
        """See :meth:`Ranged.forget`."""
        self.store.forget()

    @property
    def unfinished(self) -> StorePath:
        """The mark beside it while it is being written."""
        return self.with_name(self.name + UNFINISHED)

    def check_finished(self) -> None:
        """See :meth:`Ranged.check_finished`."""
        self.store.check_finished(self.inside)

    def kvstore(self) -> dict[str, Any]:
        """See :meth:`Ranged.kvstore`."""
        return dict(self.store.kvstore(self.inside))


class _Reading(io.RawIOBase):
    """An object, read by the ranges that are asked for."""

    def __init__(self, path: StorePath) -> None:
        self._path, self._size, self._at = path, path.found.size, 0
        self._whole = b""
        self.name = str(path)

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """See :meth:`io.IOBase.seek`."""
        self._at = max(0, offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence])
        return self._at

    def tell(self) -> int:
        """See :meth:`io.IOBase.tell`."""
        return self._at

    def readinto(self, buffer: Any) -> int:
        """See :meth:`io.RawIOBase.readinto`."""
        into = memoryview(buffer).cast("B")
        count = max(0, min(len(into), self._size - self._at))
        if count and self._size <= _BUFFER:  # one request costs more than its bytes
            self._whole = self._whole or self._path.store.read(self._path.inside, 0, self._size)
            into[:count] = self._whole[self._at : self._at + count]
        elif count:
            into[:count] = self._path.store.read(self._path.inside, self._at, self._at + count)
        self._at += count
        return count


class _Scattered(_Reading):
    """The same, by pages that are kept."""

    def readinto(self, buffer: Any) -> int:
        """See :meth:`io.RawIOBase.readinto`."""
        count = PAGES.fill(self._path.store, self._path.inside, self._at, memoryview(buffer).cast("B"))
        self._at += count
        return count
