"""A file under a second name without a second copy of its bytes, where the file system allows it.

A file is *cloned* where that is possible (shared bytes, separate fates), else *hard-linked*, else copied by the
kernel. A hard link is the same file under another name: replacing or deleting either name leaves the other
alone, writing into one writes into both.
"""

from __future__ import annotations

import fcntl
from pathlib import Path

from convkit.files.file_copy import copy_file

#: ioctl "share the bytes of that file" (linux/fs.h); a system without it answers with an error
_FICLONE = 0x40049409


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


def _clone(source: Path, target: Path) -> bool:
    with source.open("rb") as old, target.open("wb") as new:
        try:
            fcntl.ioctl(new, _FICLONE, old.fileno())
        except OSError:
            target.unlink()
            return False
    return True
