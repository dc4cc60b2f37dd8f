"""The place beside a destination where a fetch collects its bytes: ``.<name>.convkit-part/``.

It holds ``payload`` (the file or folder to be), ``state.json`` (whose bytes these are and which
version of each file) and ``lock``. One process at a time has it. It outlives its process only while
it holds bytes that the next call can continue.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from convkit.errors import ConvkitError


@dataclass(frozen=True, slots=True)
class Version:
    """What tells one state of a remote file from another."""

    #: an entity tag, a date, a fingerprint; None when the source gives nothing of the kind
    tag: str | None
    #: bytes; None when the source doesn't say
    size: int | None


class Staging:
    """Exclusive use of a staging folder for one source."""

    def __init__(self, folder: Path, uri: str) -> None:
        self.folder = folder
        self.payload = folder / "payload"
        self._uri = uri
        self._versions: dict[str, Version] = {}
        try:
            state = json.loads((folder / "state.json").read_bytes())
            self._versions = {path: Version(**version) for path, version in state["versions"].items()}
            known = state["uri"] == uri
        except (OSError, ValueError, KeyError, TypeError):
            known = False
        if not known:
            self.clear()

    def version(self, path: str) -> Version | None:
        """The version of which ``path`` was begun."""
        return self._versions.get(path)

    def begin(self, path: str, version: Version) -> None:
        """Remember of which version ``path`` is begun, before its first byte is written."""
        self._versions[path] = version
        versions = {name: {"tag": each.tag, "size": each.size} for name, each in self._versions.items()}
        written = self.folder / "state.json.new"
        written.write_text(json.dumps({"uri": self._uri, "versions": versions}))
        written.replace(self.folder / "state.json")

    def clear(self) -> None:
        """Forget everything."""
        self._versions = {}
        remove(self.payload)

    def publish(self, destination: Path) -> None:
        """Give the payload its final name; what has that name goes."""
        sync(self.payload)
        if destination.is_dir() or self.payload.is_dir():
            # folders can't be exchanged portably: dying between the renames leaves no destination, never half of one
            old = self.folder / "old"
            remove(old)
            if os.path.lexists(destination):
                destination.rename(old)
            self.payload.rename(destination)
            sync_folder(destination.parent)
            remove(old)
        else:
            self.payload.replace(destination)
            sync_folder(destination.parent)

    def holds_bytes(self) -> bool:
        """Whether there is anything to continue."""
        files = [self.payload] if self.payload.is_file() else self.payload.rglob("*")
        return any(path.is_file() and path.stat().st_size for path in files)


@contextmanager
def staging(destination: Path, uri: str) -> Iterator[Staging]:
    """The staging folder of a destination, for this process alone.

    Raises:
        ConvkitError: another process has it.
    """
    folder = destination.with_name(f".{destination.name}.convkit-part")
    with _locked(folder, destination):
        place = Staging(folder, uri)
        try:
            yield place
        finally:
            if not place.holds_bytes():
                shutil.rmtree(folder)


@contextmanager
def _locked(folder: Path, destination: Path) -> Iterator[None]:
    path = folder / "lock"
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock = path.open("a")
        except FileNotFoundError:  # its last owner is just removing the folder
            continue
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ConvkitError(
                    "is being fetched by another process", path=destination, remedy="wait until that one ends"
                ) from error
            if _is_at(lock, path):
                yield
                return


def _is_at(file: IO[str], path: Path) -> bool:
    """Whether the open file still has its name: its last owner may have removed it before we locked it."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def sync(payload: Path) -> None:
    """Bring a file or a whole folder safely to disk."""
    for path in [payload, *payload.rglob("*")]:
        if path.is_dir():
            sync_folder(path)
        else:
            with path.open("rb") as file:
                os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Bring a folder's entries safely to disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
