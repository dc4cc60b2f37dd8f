"""Writes the folders of several checkpoints, each by the writer of its own format."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from convkit.checkpoint import Writer
from convkit.errors import ConvkitError
from convkit.files.document import as_json
from convkit.files.sync import sync
from convkit.formats.plain.io_errors import written_below


class FoldersWriter(Writer):
    """Passes each leaf on to the writer of its component.

    Args:
        path: the staged folder.
        parts: the writer of each component, by its name.
        documents: JSON documents that complete the folder, by their names in it.
    """

    def __init__(self, path: Path, parts: Mapping[str, Writer], documents: Mapping[str, object]) -> None:
        self._path = path
        self._parts = dict(parts)
        self._documents = dict(documents)
        self.shared = all(part.shared for part in self._parts.values())
        self.splits = all(part.splits for part in self._parts.values())

    def granularity(self, key: str) -> int:
        """See :meth:`Writer.granularity`."""
        part, own = self._of(key)
        return part.granularity(own)

    def stretch(self, key: str) -> int:
        """See :meth:`Writer.stretch`."""
        part, own = self._of(key)
        return part.stretch(own)

    def write(self, key: str, start: int, data: np.ndarray) -> None:
        """See :meth:`Writer.write`."""
        part, own = self._of(key)
        part.write(own, start, data)

    def finish(self, key: str) -> None:
        """See :meth:`Writer.finish`."""
        part, own = self._of(key)
        part.finish(own)

    def settle(self, key: str) -> None:
        """See :meth:`Writer.settle`."""
        part, own = self._of(key)
        part.settle(own)

    def sync(self) -> None:
        """See :meth:`Writer.sync`."""
        for part in self._parts.values():
            part.sync()

    def commit(self) -> None:
        """Complete every component, then write the documents."""
        for part in self._parts.values():
            part.commit()
        with written_below(self._path):
            for name, document in self._documents.items():
                file = self._path / name
                file.parent.mkdir(exist_ok=True)
                file.write_text(json.dumps(as_json(document), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
                sync(file)
                sync(file.parent)
            sync(self._path)

    def close(self) -> None:
        """Close every component."""
        for part in self._parts.values():
            part.close()

    def _of(self, key: str) -> tuple[Writer, str]:
        name, _, own = key.partition(".")
        if name not in self._parts:
            raise ConvkitError("isn't one of the leaves to be written", path=self._path, key=key)
        return self._parts[name], own
