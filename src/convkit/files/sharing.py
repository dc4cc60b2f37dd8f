"""Give a file a second name, without a second copy of its bytes where the file system allows it.

:func:`share_file` *clones* where that is possible (shared bytes, but separate files), else makes a *hard link*, else
copies. A hard link is the same file under another name: replacing or deleting one name doesn't affect the other,
but writing into one writes into both. :func:`copy_file` always makes a separate file.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

from convkit.checkpoint.progress import unmeasured

#: the ioctl FICLONE (linux/fs.h), which shares the bytes of a file; a system without it returns an error
_FICLONE = 0x40049409
#: bytes per call; the kernel may copy fewer
_STEP = 1 << 28
#: bytes per call where the kernel doesn't copy
_BLOCK = 1 << 20


def share_file(source: Path, target: Path, *, link: bool = True, advance: Callable[[int], object] = unmeasured) -> str:
    """Make ``target``, which must not exist; returns how: ``cloned``, ``linked`` or ``copied``.

    Args:
        source: a file, not a symbolic link to one.
        target: the second name.
        link: whether a hard link is acceptable.
        advance: called with the bytes of each piece that is copied.

    Raises:
        OSError: it can't be read or written.
    """
    if _clone(source, target):
        return "cloned"
    if link:
        try:
            target.hardlink_to(source)
            return "linked"
        except OSError:  # another file system, or another owner
            pass
    copy_file(source, target, advance)
    return "copied"


def copy_file(source: Path, target: Path, advance: Callable[[int], object] = unmeasured) -> None:
    """Copy the bytes of a file, not its mode or times; ``target`` is created or overwritten.

    The kernel does the copying, and shares the bytes where the file system can.

    Raises:
        OSError: it can't be read or written.
    """
    with source.open("rb", buffering=0) as read, target.open("wb") as write:
        try:
            while copied := os.copy_file_range(read.fileno(), write.fileno(), _STEP):
                advance(copied)
        except (AttributeError, OSError):  # not supported by this system, or between these file systems
            read.seek(0)
            write.seek(0)
            while block := read.read(_BLOCK):
                write.write(block)
                advance(len(block))


def _clone(source: Path, target: Path) -> bool:
    with source.open("rb") as old, target.open("wb") as new:
        try:
            fcntl.ioctl(new, _FICLONE, old.fileno())
        except OSError:
            target.unlink()
            return False
    return True
