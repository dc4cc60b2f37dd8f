"""The file object that HDF5 writes to, so that a full disk ends in an error instead of a crash.

HDF5 flushes its buffers when a file is closed, even after a failed write. On a full disk that fails again, and HDF5 2.0
then crashes the process. So this file reports the first failure like any other, and afterwards accepts all writes
without storing them, so that HDF5 can close it.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any


class Output(io.RawIOBase):
    """The file at ``path``, created anew, for h5py's ``fileobj`` driver. Unbuffered, so a kill loses nothing."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._file = path.open("w+b", buffering=0)
        #: the first failure
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
        """Write all of the data, or raise the first failure; after that do nothing."""
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
        """Set the length, or raise the first failure; after that do nothing."""
        if self.failure is None:
            try:
                return self._file.truncate(size)
            except OSError as error:
                self.failure = error
                raise
        return size or 0

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()
