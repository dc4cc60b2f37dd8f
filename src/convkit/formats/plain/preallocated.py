"""Writes output files in which every byte has its place before the first one is written.

All files are made at full size with their headers, then tensors are written anywhere, by any
thread. A finished leaf survives a kill, because it is in the page cache. The head of the last file is written last, so
a resumed run that finds it knows that everything was laid out; resuming needs nothing else.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct, field

from convkit.checkpoint import TensorSpec, Writer
from convkit.checkpoint.outlet import Outlet
from convkit.checkpoint.source_files import Span
from convkit.errors import ConvkitError
from convkit.files.room import reserve, write_at
from convkit.files.sync import Ahead, sync
from convkit.formats.plain.check_write import check_write
from convkit.formats.plain.io_errors import written_below

if TYPE_CHECKING:
    import numpy as np


class FileLayout(Struct, frozen=True):
    """One file to make: its size, its first bytes, further fixed bytes, and the offsets of tensors."""

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
        layouts: the files, in the order of their creation.
        specs: the tensors, those without a place of their own (tied ones) included.
        folder: the staging folder, made if it doesn't exist; None if the output is one file.
        at_commit: small files that complete the folder.
        resume: continue in the files that are there.
        in_parts: see :class:`~convkit.checkpoint.WriteOptions`.
        outlet: see :class:`~convkit.checkpoint.WriteOptions`.

    Raises:
        ConvkitError: the files can't be made, or those to resume belong to another layout.
    """

    shared = True

    def __init__(
        self,
        layouts: Sequence[FileLayout],
        specs: Mapping[str, TensorSpec],
        *,
        folder: Path | None = None,
        at_commit: Mapping[str, bytes] | None = None,
        resume: bool = False,
        in_parts: bool = False,
        outlet: Outlet | None = None,
    ) -> None:
        self._layouts = layouts
        self._outlet = outlet
        self._ahead = Ahead(sum(layout.size for layout in layouts))
        #: the paths of opened files
        self._paths: dict[int, Path] = {}
        self._in_parts = in_parts
        self._specs = specs
        self._folder = folder
        self._at_commit = at_commit or {}
        self._files: list[int] = []
        #: the system lets one thread at a time write a file, and others that want to would spin meanwhile
        self._turns: dict[int, threading.Lock] = {}
        self._places: dict[str, tuple[int, int]] = {}
        self._root = folder or layouts[0].path
        with written_below(self._root):
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
            try:
                for layout in layouts:
                    file = os.open(layout.path, os.O_RDWR | os.O_CREAT | (0 if resume else os.O_TRUNC), 0o666)
                    self._files.append(file)
                    self._paths[file] = layout.path
                    self._turns[file] = threading.Lock()
                    self._places.update({key: (file, offset) for key, offset in layout.offsets.items()})
                if not (resume and self._laid_out()):
                    self._lay_out()
                for file, layout in zip(self._files, layouts, strict=True):
                    self.framed(file, 0, len(layout.head))
            except BaseException:
                self.close()
                raise

    def place(self, key: str) -> Span | None:
        """See :meth:`Writer.place`."""
        if key not in self._places:
            return None
        file, offset = self._places[key]
        return Span(self._paths[file], offset, self._specs[key].nbytes)

    def write(self, key: str, start: int, data: np.ndarray) -> None:
        """Write elements from ``start`` on; a tied leaf is skipped, because the leaf that it names holds them."""
        spec = check_write(self._root, key, self._specs.get(key), start, data)
        if key in self._places:
            file, offset = self._places[key]
            first = offset + start * spec.itemsize
            with written_below(self._root), self._turns[file]:
                write_at(file, first, data.view("uint8").data)
            if self._outlet:
                self._outlet.data(self._paths[file], first, first + data.nbytes)
            else:
                self._ahead.wrote(file, data.nbytes)

    def framed(self, file: int, start: int, stop: int) -> None:
        """Say that bytes of an opened file that aren't elements won't change any more."""
        if self._outlet:
            self._outlet.frame(self._paths[file], start, stop)

    def finish(self, key: str) -> None:
        """Do nothing: the data is in the page cache, which outlives the process."""

    def settle(self, key: str) -> None:
        """Do nothing, as :meth:`finish`."""

    def sync(self) -> None:
        """Sync all files."""
        with written_below(self._root):
            self._ahead.wait()
            for file in self._files:
                sync(file)

    def commit(self) -> None:
        """Complete the files."""
        with written_below(self._root):
            self._complete()
            for name, data in self._at_commit.items():
                (self._root / name).write_bytes(data)
            self._ahead.wait()

    def close(self) -> None:
        """Close the files."""
        self._ahead.close()
        while self._files:
            os.close(self._files.pop())

    def _complete(self) -> None:
        """Add what the format needs once all leaves are finished."""

    def _laid_out(self) -> bool:
        """True if an earlier process laid out all files, False if it was killed before that."""
        states = [self._state(file, layout) for file, layout in zip(self._files, self._layouts, strict=True)]
        if states[-1] == "blank" and not self._in_parts:
            return False
        if set(states) != {"whole"}:
            wrong = next(layout.path for layout, state in zip(self._layouts, states, strict=True) if state != "whole")
            raise ConvkitError(
                "differs from the layout of the output to resume", path=wrong, remedy=f"remove {self._root} and retry"
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
            if self._in_parts or self._outlet:
                os.ftruncate(file, layout.size)
            else:
                preallocate(file, layout.size)
            for offset, stamp in layout.stamps.items():
                write_at(file, offset, stamp)
        for file, layout in zip(self._files, self._layouts, strict=True):
            write_at(file, 0, layout.head)


def preallocate(file: int, size: int) -> None:
    """Give a file its full size, reserved if the system can, so that a full disk is found before the work begins."""
    if not reserve(file, size):
        os.ftruncate(file, size)
