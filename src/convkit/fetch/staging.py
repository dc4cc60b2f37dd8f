"""The staging folder of a fetch, which records the version of each file that has arrived, wholly or in part.

``.<name>.convkit-part/`` holds ``payload`` (the unfinished file or folder), ``state.json`` (the source and the
version of each file) and ``lock``. It outlives its process only if it holds bytes that the next call can
continue.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from convkit.checkpoint import json_text
from convkit.errors import ConvkitError
from convkit.files import publication
from convkit.files.publication import remove
from convkit.files.staging import Staging


@dataclass(frozen=True, slots=True)
class Version:
    """A version of a remote file: its tag and its size."""

    #: an entity tag, a date or a fingerprint; None if the source gives none of them
    tag: str | None
    #: bytes; None if the source doesn't say
    size: int | None


class Parts(Staging):
    """The files of one source that have arrived. Use it as a context manager, which holds the lock.

    Raises:
        ConvkitError: another process is fetching to that destination.
    """

    def __init__(self, destination: Path, uri: str) -> None:
        super().__init__(destination, lambda: None)  # fetch itself decides what it may replace
        self.payload = self.folder / "payload"
        self.uri = uri
        self._versions: dict[str, Version] = {}

    def prepare(self) -> None:
        """Continue an earlier call for the same source; remove files of another source."""
        try:
            state = json_text.loads((self.folder / "state.json").read_bytes())
            self._versions = {path: Version(**version) for path, version in state["versions"].items()}
            known = state["uri"] == self.uri
        except (OSError, ValueError, KeyError, TypeError):
            known = False
        if not known:
            self.clear()

    def keeps(self, error: type[BaseException] | None) -> bool:
        """Whether there are bytes to continue."""
        files = [self.payload] if self.payload.is_file() else self.payload.rglob("*")
        return any(path.is_file() and path.stat().st_size for path in files)

    def busy(self) -> ConvkitError:
        """The error to raise if another process holds the lock."""
        return ConvkitError("is being fetched by another process", path=self.target, remedy="wait until that one ends")

    def version(self, path: str) -> Version | None:
        """The version of the file that was begun at ``path``."""
        return self._versions.get(path)

    def begin(self, path: str, version: Version) -> None:
        """Record the version of the file at ``path`` before its first byte is written."""
        self._versions[path] = version
        versions = {name: {"tag": each.tag, "size": each.size} for name, each in self._versions.items()}
        written = self.folder / "state.json.new"
        written.write_text(json.dumps({"uri": self.uri, "versions": versions}))
        written.replace(self.folder / "state.json")

    def clear(self) -> None:
        """Forget everything."""
        self._versions = {}
        remove(self.payload)

    def publish_payload(self, record: Path, stale: Iterable[Path], *, with_payload: bool = True) -> None:
        """Give the payload and its record their final names, all or none, in place of what is there and is stale."""
        staged = {self.target.with_name(record.name): record}
        if with_payload:
            staged[self.target] = self.payload
        publication.publish(self.folder, staged, stale)
