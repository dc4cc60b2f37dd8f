"""A file under a second name: without a second copy of its bytes where the file system allows it.

:func:`share_file` *clones* where that is possible (shared bytes, separate fates), else makes a *hard link*, else
copies. A hard link is the same file under another name: replacing or deleting either name leaves the other
alone, writing into one writes into both. :func:`copy_file` always makes a file of its own.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path

#: ioctl "share the bytes of that file" (linux/fs.h); a system without it answers with an error
_FICLONE = 0x40049409
#: bytes asked for at once; the kernel copies less where it has to
_STEP = 1 << 30


def share_file(source: Path, target: Path, *, link: bool = True) -> str:
    """Make ``target``, which must not exist; returns how: ``cloned``, ``linked`` or ``copied``.

    Args:
        source: a file, not a link to one.
        target: its other name.
        link: whether a hard link will do.

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
    copy_file(source, target)
    return "copied"


def copy_file(source: Path, target: Path) -> None:
    """Copy the bytes of a file, not its mode and times; ``target`` is made or overwritten.

    The kernel copies, and shares the bytes where the file system can.

    Raises:
        OSError: it can't be read or written.
    """
    with source.open("rb") as read, target.open("wb") as write:
        try:
            while os.copy_file_range(read.fileno(), write.fileno(), _STEP):
                pass
        except (AttributeError, OSError):  # not on this system, or not between these file systems
            read.seek(0)
            write.seek(0)
            shutil.copyfileobj(read, write)


def _clone(source: Path, target: Path) -> bool:
    with source.open("rb") as old, target.open("wb") as new:
        try:
            fcntl.ioctl(new, _FICLONE, old.fileno())
        except OSError:
            target.unlink()
            return False
    return True
