"""The file below an HDF5 file that is being written, so that a full disk ends in an error.

HDF5 flushes what it holds when a file is closed, also after a write has failed. On a full disk that
fails again, and HDF5 2.0 then crashes the process. Here the first failure is told, as any other; after
it the file takes whatever it is given and keeps nothing, so that HDF5 can let go of it.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any


class Output(io.RawIOBase):
    """What h5py's ``fileobj`` driver writes to: the file at ``path``, made anew. Unbuffered: a kill loses nothing."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._file = path.open("w+b", buffering=0)
        #: what the first failure was
        self.failure: OSError | None = None

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """As of any file."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """As of any file."""
        return self._file.tell()

    def readinto(self, buffer: Any) -> int:
        """As of any file."""
        return self._file.readinto(buffer) or 0

    def write(self, data: Any) -> int:
        """All of the data, or the first failure; after that nothing."""
        view = memoryview(data)
        done = 0
        while done < len(view) and self.failure is None:
            try:
                done += self._file.write(view[done:]) or 0
            except OSError as error:
                self.failure = error
                raise
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        """Set the length, or the first failure; after that nothing."""
        if self.failure is None:
            try:
                return self._file.truncate(size)
            except OSError as error:
                self.failure = error
                raise
        return size or 0

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()
        super().close()
