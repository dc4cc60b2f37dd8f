"""Fetch files that are already on this machine, from plain paths and ``file://``.

A file is cloned where the file system can, else copied (:mod:`convkit.files.sharing`), so that nobody who writes into
the source changes what was fetched. A hard link, which costs no disk, is made only on request: it *is* the source. A
checkpoint too large to be copied can be read where it lies (:func:`convkit.fetch.fetch`, ``in_place``).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from convkit.errors import ConvkitError, UsageError
from convkit.fetch.record import FILE, FetchedFile
from convkit.fetch.source import Call, Files, check_paths, is_index, shards_in
from convkit.files.sharing import share_file
from convkit.files.stores.failures import MissingError
from convkit.files.unchanged import State, state_of
from convkit.files.uri import without_secrets


class Local(Files):
    """A file or a folder on this machine."""

    def __init__(self, path: Path, uri: str) -> None:
        self.path = path
        self.uri = uri
        self.name = path.name

    def listing(self, call: Call) -> list[str] | None:
        """See :meth:`Files.listing`."""
        if not self.path.exists():
            raise MissingError("no such file or folder", path=self.uri)
        own, destination = self.path.resolve(), call.parts.folder.resolve().with_name(call.parts.target.name)
        if self.path.is_dir() and destination.is_relative_to(own) and destination != own:
            raise UsageError("the destination lies inside the source", path=self.uri, remedy="choose another place")
        if own.is_relative_to(destination):
            raise UsageError("lies in the destination, or is it", path=self.uri, remedy="choose another destination")
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
        before, here = State.of(source.stat()), 0

        def advance(copied: int) -> None:
            nonlocal here
            here += copied
            call.progress(path, min(here, before.size), before.size)

        how = share_file(source, target, link=call.link, advance=advance)
        if not State.of(source.stat()).is_that_of(before):
            raise ConvkitError(
                "changed while it was copied", path=source, remedy="let nothing write to it, and try again"
            )
        if how != "linked":
            os.utime(target, ns=(before.mtime_ns, before.mtime_ns))
        call.progress(path, before.size, before.size)

    def stale(self, files: Sequence[FetchedFile]) -> bool:
        """Whether sizes or times of the source differ from the record; a missing source isn't stale."""
        if not self.path.exists():
            return False
        now = {(path, *_size_and_time(state_of(file))) for path, file in self.files().items()}
        return now != {(each.path, each.size, each.mtime_ns) for each in files}

    def is_at(self, destination: Path, files: Sequence[FetchedFile]) -> bool:
        """Whether a file at the destination is the source's own, under a second name."""
        try:
            own = self.files()
        except ConvkitError:
            return False
        pairs = ((destination / each.path, own[each.path]) for each in files if each.path in own)
        return any(one.is_file() and other.is_file() and one.samefile(other) for one, other in pairs)

    @property
    def folder(self) -> Path:
        """What the paths of :meth:`files` lie below; the file itself for a file."""
        return self.path.parent if is_index(self.name) and not self.path.is_dir() else self.path

    def files(self) -> dict[str, Path]:
        """Every file that is fetched, by its path in the record.

        Raises:
            MissingError: there is no such file or folder.
            ConvkitError: the folder, or the index of shards, lists what can't be fetched.
        """
        if not self.path.exists():
            raise MissingError("no such file or folder", path=self.uri)
        paths = self._paths()
        if paths is None and not is_index(self.name):
            return {FILE: self.path}
        if paths is None:
            found = [self.name, *shards_in(self.path, self.uri)]
            paths = sorted([*found, *(["config.json"] if self._at("config.json").is_file() else [])])
        check_paths(paths, self.uri)
        return {path: self._at(path) for path in paths}

    def _at(self, path: str) -> Path:
        return (self.path if self.path.is_dir() else self.path.parent) / path

    def _paths(self) -> list[str] | None:
        if not self.path.is_dir():
            return None
        paths = []
        for folder, folders, names in os.walk(self.path):
            for name in folders:
                if (Path(folder) / name).is_symlink():
                    raise ConvkitError(
                        "is a link to a folder, which fetch doesn't follow",
                        path=Path(folder) / name,
                        remedy="put the folder itself there",
                    )
            paths += [(Path(folder) / name).relative_to(self.path).as_posix() for name in names]
        if not paths:
            raise ConvkitError("the folder holds no file", path=self.uri)
        return sorted(paths)


def _size_and_time(state: State | None) -> tuple[int, ...]:
    return (state.size, state.mtime_ns) if state else ()


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
