"""Room on a disk for what is too large to be held in memory: files without names, which end with their process."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from convkit.files.room import reserve

if TYPE_CHECKING:
    import numpy as np


class ScratchFile:
    """A file that one thread at a time fills and reads, as memory: nobody else can cut it short."""

    def __init__(self, folder: Path) -> None:
        import tempfile

        self._room: np.ndarray | None = None
        with tempfile.TemporaryFile(dir=folder) as file:
            self._number = os.dup(file.fileno())

    def room(self, nbytes: int) -> np.ndarray | None:
        """Room for so many bytes, the same each time; None where it can't be reserved, so that the disk could be full.

        Raises:
            OSError: the disk is full, or its files can't be mapped.
        """
        import mmap

        import numpy as np

        if self._room is None or self._room.nbytes < nbytes:
            if not reserve(self._number, nbytes):
                return None
            self._room = np.frombuffer(mmap.mmap(self._number, nbytes), np.uint8)
        return self._room[:nbytes]

    def close(self) -> None:
        """Give up the file and its room."""
        self._room = None
        os.close(self._number)


class Scratch:
    """Temporary files of a folder; each is used again, because new room costs more than the work that is done in it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._idle: list[ScratchFile] = []

    def take(self) -> ScratchFile:
        """A file that nobody uses.

        Raises:
            OSError: none can be made.
        """
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return ScratchFile(self._folder)

    def give_back(self, file: ScratchFile) -> None:
        """Let others use it."""
        with self._lock:
            self._idle.append(file)

    def close(self) -> None:
        """Give up all files that nobody uses."""
        while self._idle:
            self._idle.pop().close()


class Lent:
    """A file of these, from when room is first asked for until it is given back; without any there is no room."""

    def __init__(self, scratch: Scratch | None) -> None:
        self._scratch = scratch
        self._file: ScratchFile | None = None

    def room(self, nbytes: int) -> np.ndarray | None:
        """Room for so many bytes, the same each time; None where the disk has none."""
        if self._scratch is None:
            return None
        with suppress(OSError):
            self._file = self._file or self._scratch.take()
            return self._file.room(nbytes)
        return None

    def close(self) -> None:
        """Let others use the file."""
        if self._scratch and self._file:
            self._scratch.give_back(self._file)
            self._file = None
