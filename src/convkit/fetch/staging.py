"""What a fetch adds to a staging folder: which files have arrived, in part or whole, and of which version each is.

``.<name>.convkit-part/`` holds ``payload`` (the file or folder to be), ``state.json`` (whose bytes these are and
the version of each file) and ``lock``. It outlives its process only while it holds bytes that the next call can
continue.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from convkit.errors import ConvkitError
from convkit.files.staging import Staging, remove


@dataclass(frozen=True, slots=True)
class Version:
    """What distinguishes one state of a remote file from another."""

    #: an entity tag, a date, a fingerprint; None when the source gives nothing of the kind
    tag: str | None
    #: bytes; None when the source doesn't say
    size: int | None


class Parts(Staging):
    """The files of one source, as far as they have arrived. Use as a context manager: it holds the lock.

    Raises:
        ConvkitError: another process is fetching to that destination.
    """

    def __init__(self, destination: Path, uri: str) -> None:
        super().__init__(destination, overwrite=True)  # what a fetch may replace it decides itself
        self.payload = self.folder / "payload"
        self._uri = uri
        self._versions: dict[str, Version] = {}

    def prepare(self) -> None:
        """Continue what an earlier call left of the same source; remove what is of another one."""
        try:
            state = json.loads((self.folder / "state.json").read_bytes())
            self._versions = {path: Version(**version) for path, version in state["versions"].items()}
            known = state["uri"] == self._uri
        except (OSError, ValueError, KeyError, TypeError):
            known = False
        if not known:
            self.clear()

    def keeps(self, error: type[BaseException] | None) -> bool:
        """Whether there is anything to continue."""
        files = [self.payload] if self.payload.is_file() else self.payload.rglob("*")
        return any(path.is_file() and path.stat().st_size for path in files)

    def busy(self) -> ConvkitError:
        """What to say where another process holds the lock."""
        return ConvkitError("is being fetched by another process", path=self.target, remedy="wait until that one ends")

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

    def publish_payload(self) -> None:
        """Give the payload its final name; what had that name is removed."""
        self.rename({self.payload: self.target})
