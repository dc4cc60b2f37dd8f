"""Output whose every byte has its place before the first one is written.

All files are made at full size with their headers, then tensors are written anywhere, by any
thread. What a finished leaf needs to survive the death of the process is in the page cache
already. The head of the last file is written last, so that finding it again says that all was laid
out: that is the whole of resuming.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from convkit.checkpoint import TensorSpec, Writer
from convkit.errors import ConvkitError
from convkit.files.sync import sync
from convkit.formats.plain.check_write import check_write
from convkit.formats.plain.io_errors import written_below


@dataclass(frozen=True, slots=True)
class FileLayout:
    """One file to make: its size, the bytes at its start, further fixed bytes, and where tensors go."""

    path: Path
    size: int
    #: the bytes at offset 0
    head: bytes
    #: key -> offset of the tensor's first byte
    offsets: Mapping[str, int]
    #: offset -> fixed bytes between tensors
    stamps: Mapping[int, bytes] = field(default_factory=dict)


class PreallocatedWriter(Writer):
    """Writes tensors into the places that a layout gives them.

    Args:
        layouts: the files, in the order in which they are made.
        specs: the tensors, those without a place of their own (tied ones) included.
        folder: the staging folder, made if it isn't there; None where the output is one file.
        at_commit: small files that complete the folder.
        resume: continue in the files that are there.

    Raises:
        ConvkitError: the files can't be made, or those to resume belong to another layout.
    """

    def __init__(
        self,
        layouts: Sequence[FileLayout],
        specs: Mapping[str, TensorSpec],
        *,
        folder: Path | None = None,
        at_commit: Mapping[str, bytes] | None = None,
        resume: bool = False,
    ) -> None:
        self._layouts = layouts
        self._specs = specs
        self._folder = folder
        self._at_commit = at_commit or {}
        self._files: list[int] = []
        self._places: dict[str, tuple[int, int]] = {}
        self._root = folder or layouts[0].path
        with written_below(self._root):
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
            try:
                for layout in layouts:
                    file = os.open(layout.path, os.O_RDWR | os.O_CREAT | (0 if resume else os.O_TRUNC), 0o666)
                    self._files.append(file)
                    self._places.update({key: (file, offset) for key, offset in layout.offsets.items()})
                if not (resume and self._laid_out()):
                    self._lay_out()
            except BaseException:
                self.close()
                raise

    def write(self, key: str, start: int, data: np.ndarray) -> None:
        """Write elements from ``start``; those of a tied leaf are in the leaf that it names, and are not written."""
        spec = check_write(self._root, key, self._specs.get(key), start, data)
        if key in self._places:
            file, offset = self._places[key]
            with written_below(self._root):
                write_at(file, offset + start * spec.itemsize, data.view(np.uint8).data)

    def finish(self, key: str) -> None:
        """Nothing to do: what was written is in the page cache, which outlives the process."""

    def commit(self) -> None:
        """Complete the files and sync them, then their folder."""
        with written_below(self._root):
            self._complete()
            for name, data in self._at_commit.items():
                (self._root / name).write_bytes(data)
                sync(self._root / name)
            for file in self._files:
                sync(file)
            sync(self._folder or self._root.parent)

    def close(self) -> None:
        """Let go of the files."""
        while self._files:
            os.close(self._files.pop())

    def _complete(self) -> None:
        """What a format adds to its files once all leaves are finished."""

    def _laid_out(self) -> bool:
        """True when an earlier process laid all files out, False when it was killed before."""
        states = [self._state(file, layout) for file, layout in zip(self._files, self._layouts, strict=True)]
        if states[-1] == "blank":
            return False
        if set(states) != {"whole"}:
            wrong = next(layout.path for layout, state in zip(self._layouts, states, strict=True) if state != "whole")
            raise ConvkitError(
                "is not what the output to resume was laid out as", path=wrong, remedy=f"remove {self._root} and retry"
            )
        return True

    def _state(self, file: int, layout: FileLayout) -> str:
        head = os.pread(file, len(layout.head), 0)
        if head == layout.head and os.fstat(file).st_size == layout.size:
            return "whole"
        return "other" if any(head) else "blank"

    def _lay_out(self) -> None:
        for file, layout in zip(self._files, self._layouts, strict=True):
            os.ftruncate(file, 0)
            preallocate(file, layout.size)
            for offset, stamp in layout.stamps.items():
                write_at(file, offset, stamp)
        for file, layout in zip(self._files, self._layouts, strict=True):
            write_at(file, 0, layout.head)


def preallocate(file: int, size: int) -> None:
    """Give an empty file its size, on disk where the system can, so that a full disk shows before the work."""
    if size and hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size)
    else:
        os.ftruncate(file, size)


def write_at(file: int, offset: int, data: bytes | memoryview) -> None:
    """All of the bytes at that offset (one call of pwrite takes 2 GiB at most)."""
    rest = memoryview(data)
    while rest:
        written = os.pwrite(file, rest, offset)
        rest = rest[written:]
        offset += written
