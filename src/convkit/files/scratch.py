"""Room on a disk for what is too large to be held in memory: files without names, which end with their process."""

from __future__ import annotations

import os
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from convkit.files.room import reserve, write_at

if TYPE_CHECKING:
    import numpy as np


class ScratchFile:
    """A file that one thread at a time writes and reads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._size = 0
        with tempfile.TemporaryFile(dir=folder) as file:
            self._number = os.dup(file.fileno())

    def reserve(self, nbytes: int) -> bool:
        """Take room for so many bytes, so that writing them can't fail for want of it; False where that can't be done.

        Raises:
            OSError: the disk is full.
        """
        if nbytes > self._size and reserve(self._number, nbytes):
            self._size = nbytes
        return nbytes <= self._size

    def write(self, offset: int, data: np.ndarray) -> None:
        """Write an array (contiguous) at an offset.

        Raises:
            OSError: the disk can't take it.
        """
        write_at(self._number, offset, data.reshape(-1).view("uint8").data)

    def fill(self, offset: int, into: np.ndarray) -> None:
        """Fill an array (contiguous) with the bytes at an offset.

        Raises:
            OSError: the disk can't give them.
        """
        rest = into.reshape(-1).view("uint8").data
        while rest:
            count = os.preadv(self._number, [rest], offset)
            if not count:
                raise OSError(f"a temporary file in {self._folder} ends early")
            rest, offset = rest[count:], offset + count

    def close(self) -> None:
        """Give up the file and its room."""
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
