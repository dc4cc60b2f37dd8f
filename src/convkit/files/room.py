"""Reserve the room of a file on the disk before it is written, and write anywhere in it."""

from __future__ import annotations

import errno
import os

#: what a file system answers that can't reserve
_CANNOT = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
#: bytes of a call of pwrite: the page cache takes what one call writes into pieces as large. Large free ones are those
#: that a virtual machine gives back to its host, which are dear when they return (the case ``pieces`` of benchmarks/)
_CALL = 128 << 10


def reserve(file: int, size: int) -> bool:
    """Give an open file its size, with room on the disk for all of it; False where the file system can't reserve.

    Writing is faster then, and a full disk is found before the work begins. What isn't written yet reads as zeros.

    Raises:
        OSError: the disk is full.
    """
    if size and hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(file, 0, size)
            return True
        except OSError as error:
            if error.errno not in _CANNOT:
                raise
    return not size


def write_at(file: int, offset: int, data: bytes | memoryview) -> None:
    """Write all of the bytes at an offset of an open file.

    Raises:
        OSError: the disk can't take them.
    """
    rest = memoryview(data)
    while rest:
        written = os.pwrite(file, rest[:_CALL], offset)
        rest = rest[written:]
        offset += written
