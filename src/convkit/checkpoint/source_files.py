"""Reads parts of files that somebody else may change meanwhile.

Bytes are asked of the system (``pread``), never looked at through a memory map: what lies beyond the end of a map
whose file was cut short, or on a disk that fails, kills the process by a signal. ``pread`` says it, and costs no more.
"""

from __future__ import annotations

import errno
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from convkit.errors import ConvkitError

if TYPE_CHECKING:
    from io import RawIOBase

    import numpy as np

#: files that are kept open at a time: systems allow a process 256 or more
_OPEN = 64

_LEAVE_ALONE = "fetch it again, let nothing write to it, and start again"


class Span(Struct, frozen=True):
    """Bytes that lie in a file, from an offset on."""

    path: Path
    start: int
    size: int

    def __len__(self) -> int:
        return self.size


class Ranged:
    """A path to what isn't a file of this machine, and is read by ranges (:mod:`convkit.files.stores`)."""

    def fill(self, offset: int, into: memoryview) -> int:
        """Fill a buffer with bytes from an offset on; returns how many there were. Thread-safe.

        Raises:
            ConvkitError: they can't be read.
        """
        raise NotImplementedError

    def scattered(self) -> RawIOBase:
        """It, opened to read a few bytes at each of many places.

        Raises:
            ConvkitError: it can't be read.
        """
        raise NotImplementedError

    @property
    def version(self) -> str:
        """What changes with its content, as it was when it was first looked at: ``ETag "…"``, ``generation 17``."""
        raise NotImplementedError

    def forget(self) -> None:
        """Look anew at what is there when next asked."""
        raise NotImplementedError

    def check_finished(self) -> None:
        """Check that no run of convkit is writing it, and none was killed while it did.

        Raises:
            ConvkitError: one is, or was.
        """
        raise NotImplementedError

    def kvstore(self) -> dict[str, Any]:
        """tensorstore's spec of it, if it is a folder.

        Raises:
            ConvkitError: tensorstore can't read it.
        """
        raise NotImplementedError


class _Descriptor:
    """An opened file, closed when nobody reads it any more."""

    __slots__ = ("identity", "number")

    def __init__(self, path: Path) -> None:
        self.number = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        status = os.fstat(self.number)
        self.identity = (status.st_dev, status.st_ino)

    def __del__(self) -> None:
        if number := getattr(self, "number", None):
            os.close(number)


class SourceFiles:
    """Files that are read in parts, by any thread. A file is opened when it is first read."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._opened: OrderedDict[Path, _Descriptor] = OrderedDict()
        self._identities: dict[Path, tuple[int, int]] = {}

    def fill(self, path: Path, offset: int, into: np.ndarray, key: str | None = None) -> None:
        """Read bytes from an offset on, as many as the array has (contiguous, any dtype).

        Raises:
            ConvkitError: they can't be read, the file is shorter now, or another one has its name.
        """
        import numpy as np

        rest = into.reshape(-1).view(np.uint8).data
        if isinstance(path, Ranged):
            if (count := path.fill(offset, rest)) < len(rest):
                raise truncated(path, key, offset + count, len(rest) - count)
            return
        with readable(path, key):
            descriptor = self._descriptor(path, key)
            while rest:
                count = os.preadv(descriptor.number, [rest], offset)
                if not count:
                    raise truncated(path, key, offset, len(rest))
                rest = rest[count:]
                offset += count

    def fill_rows(self, path: Path, offsets: Sequence[int], into: np.ndarray, key: str | None = None) -> None:
        """Fill each row of a 2-D array from its own offset on; of many short rows, each costs a call of the system.

        Raises:
            ConvkitError: as :meth:`fill`.
        """
        import numpy as np

        wanted = into.shape[1] * into.itemsize
        rest, at = into.reshape(-1).view(np.uint8).data, 0
        if isinstance(path, Ranged):
            for offset, row in zip(offsets, into, strict=True):
                self.fill(path, offset, row, key)
            return
        with readable(path, key):
            number = self._descriptor(path, key)
            for offset in offsets:
                if os.preadv(number.number, [rest[at : at + wanted]], offset) < wanted:
                    self.fill(path, offset, into[at // max(1, wanted)], key)
                at += wanted

    def read(self, path: Path, offset: int, count: int, dtype: Any = "uint8", key: str | None = None) -> np.ndarray:
        """``count`` elements from the byte at ``offset`` on: 1-D, in a dtype.

        Raises:
            ConvkitError: as :meth:`fill`.
        """
        import numpy as np

        data = np.empty(count, dtype)
        self.fill(path, offset, data, key)
        return data

    def close(self) -> None:
        """Close the files that no thread reads."""
        with self._lock:
            self._opened.clear()

    def _descriptor(self, path: Path, key: str | None) -> _Descriptor:
        with self._lock:
            found = self._opened.get(path)
            if found is None:
                found = self._opened[path] = _Descriptor(path)
                if self._identities.setdefault(path, found.identity) != found.identity:
                    del self._opened[path]
                    raise ConvkitError(
                        "was replaced by another file while it was read", path=path, key=key, remedy=_LEAVE_ALONE
                    )
                while len(self._opened) > _OPEN:
                    self._opened.popitem(last=False)
            else:
                self._opened.move_to_end(path)
            return found


def truncated(path: Path, key: str | None, offset: int, missing: int) -> ConvkitError:
    """The error for a file that ends before the bytes that it had when it was opened."""
    return ConvkitError(
        f"was truncated while it was read: {missing} bytes are missing from byte {offset} on",
        path=path,
        key=key,
        remedy=_LEAVE_ALONE,
    )


@contextmanager
def readable(path: Path, key: str | None = None) -> Iterator[None]:
    """Raise :class:`ConvkitError` for an :class:`OSError` while a file is read."""
    try:
        yield
    except OSError as error:
        gone = isinstance(error, FileNotFoundError) or error.errno == errno.ESTALE
        problem = "vanished while it was read" if gone else f"can't be read: {error.strerror or error}"
        remedy = _LEAVE_ALONE if gone else "check the disk, and who may read the file"
        raise ConvkitError(problem, path=path, key=key, remedy=remedy) from error
