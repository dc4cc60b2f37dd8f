"""Fetch files that are already on this machine, from plain paths and ``file://``.

A checkpoint may be larger than the free disk, and convkit never writes to its sources. So a file's bytes are
shared where possible (:mod:`convkit.files.sharing`), also by a hard link: don't edit a fetched file in place.
A later fetch reports files that have changed.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from convkit.errors import ConvkitError, UsageError
from convkit.fetch.record import FILE, FetchedFile
from convkit.fetch.source import Call, Files, MissingError
from convkit.files.sharing import share_file
from convkit.files.uri import without_secrets


class Local(Files):
    """A file or a folder on this machine."""

    def __init__(self, path: Path, uri: str) -> None:
        self._path = path
        self.uri = uri
        self.name = path.name

    def listing(self, call: Call) -> list[str] | None:
        """See :meth:`Files.listing`."""
        if not self._path.exists():
            raise MissingError("no such file or folder", path=self.uri)
        if self._path.is_dir() and call.parts.folder.resolve().is_relative_to(self._path.resolve()):
            raise UsageError("the destination lies inside the source", path=self.uri, remedy="choose another place")
        return self._paths()

    def size(self, path: str) -> int | None:
        """See :meth:`Files.size`."""
        try:
            return self._at(path).stat().st_size
        except OSError:  # said when it is fetched
            return None

    def bring(self, path: str, target: Path, call: Call) -> None:
        """See :meth:`Files.bring`."""
        # in a folder of links (a download cache), follow each link to the file itself
        source = self._at(path).resolve()
        if not source.is_file():
            raise MissingError("isn't a file", path=source, remedy="remove it from the source, or repair the link")
        target.unlink(missing_ok=True)
        times = source.stat()
        here = 0

        def advance(copied: int) -> None:
            nonlocal here
            here += copied
            call.progress(path, min(here, times.st_size), times.st_size)

        share_file(source, target, advance=advance)
        os.utime(target, ns=(times.st_atime_ns, times.st_mtime_ns))
        call.progress(path, times.st_size, times.st_size)

    def stale(self, files: Sequence[FetchedFile]) -> bool:
        """Whether sizes or times of the source differ from the record; a missing source isn't stale."""
        if not self._path.exists():
            return False
        now = set()
        for path in self._paths() or [FILE]:
            stat = (self._path / path).stat()
            now.add((path, stat.st_size, stat.st_mtime_ns))
        return now != {(each.path, each.size, each.mtime_ns) for each in files}

    def _at(self, path: str) -> Path:
        return (self._path if self._path.is_dir() else self._path.parent) / path

    def _paths(self) -> list[str] | None:
        if not self._path.is_dir():
            return None
        paths = []
        for folder, folders, names in os.walk(self._path):
            for name in folders:
                if (Path(folder) / name).is_symlink():
                    raise ConvkitError(
                        "is a link to a folder, which fetch doesn't follow",
                        path=Path(folder) / name,
                        remedy="put the folder itself there",
                    )
            paths += [(Path(folder) / name).relative_to(self._path).as_posix() for name in names]
        if not paths:
            raise ConvkitError("the folder holds no file", path=self.uri)
        return sorted(paths)


def from_path(uri: str) -> Local:
    """Make the source of a plain path, relative to the working folder."""
    path = Path(uri).absolute()
    return Local(path, str(path))


def from_file_uri(uri: str) -> Local:
    """Make the source of ``file:///absolute/path``, percent-encoded (RFC 8089)."""
    parts = urlsplit(uri)
    if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
        raise UsageError("names another machine", path=without_secrets(uri), remedy="write file:///absolute/path")
    if parts.query or parts.fragment:
        raise UsageError("has a bare ? or #", path=without_secrets(uri), remedy="write %3F and %23")
    return Local(Path(unquote(parts.path)), uri)
