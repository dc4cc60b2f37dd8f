"""Give the room of a file's bytes back to the disk, while the file keeps its size: the bytes read as zeros then."""

from __future__ import annotations

import ctypes
import os
import tempfile
from pathlib import Path

#: fallocate(2): FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE
_PUNCH = 0x01 | 0x02
#: file systems give back whole blocks; this is a multiple of usual ones' (ext4, xfs, btrfs, tmpfs)
BLOCK = 4096


def punch(file: int, start: int, stop: int) -> bool:
    """Give back the whole blocks of ``[start, stop)`` of an opened file; False where the system can't (not Linux)."""
    start, stop = -(-start // BLOCK) * BLOCK, stop // BLOCK * BLOCK
    if start >= stop:
        return True
    try:
        fallocate = ctypes.CDLL(None, use_errno=True).fallocate
    except AttributeError:
        return False
    return bool(fallocate(file, _PUNCH, ctypes.c_int64(start), ctypes.c_int64(stop - start)) == 0)


def hollow(file: int) -> None:
    """Give back all bytes of an opened file.

    Raises:
        OSError: the system refuses it.
    """
    size = os.fstat(file).st_size
    os.ftruncate(file, 0)
    os.ftruncate(file, size)


def can_punch(folder: Path) -> bool:
    """Whether the file system of a folder gives back parts of files."""
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(bytes(2 * BLOCK))
        file.flush()
        return punch(file.fileno(), 0, BLOCK)
