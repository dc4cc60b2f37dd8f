"""Give a file a second name, without a second copy of its bytes where the file system allows it.

:func:`share_file` *clones* where that is possible (shared bytes, but separate files), else makes a *hard link*, else
copies. A hard link is the same file under another name: replacing or deleting one name doesn't affect the other,
but writing into one writes into both. :func:`copy_file` always makes a separate file.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import IO

from convkit.checkpoint.progress import unmeasured
from convkit.files.room import reserve, write_at

#: the ioctl FICLONE (linux/fs.h), which shares the bytes of a file; a system without it returns an error
_FICLONE = 0x40049409
#: bytes per call; the kernel may copy fewer
_STEP = 1 << 28
#: bytes per call otherwise
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

    The bytes are shared where the file system can. A server that holds both files copies them itself. Else they are
    read, and written into room that was reserved before, which takes less time than copying within the kernel.

    Raises:
        OSError: it can't be read or written.
    """
    with source.open("rb", buffering=0) as read, target.open("wb", buffering=0) as write:
        size = os.fstat(read.fileno()).st_size
        if _cloned(read, write):
            advance(size)
            return
        if on_server(source) and on_server(target):
            with suppress(AttributeError, OSError):  # not by this server, or not between these two
                while copied := os.copy_file_range(read.fileno(), write.fileno(), _STEP):
                    advance(copied)
                return
        reserve(write.fileno(), size)
        buffer, at = memoryview(bytearray(min(_BLOCK, max(1, size)))), 0
        while count := os.preadv(read.fileno(), [buffer], at):
            write_at(write.fileno(), at, buffer[:count])
            at += count
            advance(count)
        write.truncate(at)


def on_server(path: Path) -> bool:
    """Whether a file lies on a server that is reached by NFS or SMB (Linux)."""
    device = path.stat().st_dev
    return _kinds().get(f"{os.major(device)}:{os.minor(device)}", "").startswith(("nfs", "cifs", "smb"))


@lru_cache(maxsize=1)
def _kinds() -> dict[str, str]:
    """The kind of each file system that is mounted, by its device."""
    try:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return {}
    return {line.split()[2]: line.partition(" - ")[2].split()[0] for line in lines}


def _clone(source: Path, target: Path) -> bool:
    with source.open("rb") as old, target.open("wb") as new:
        if _cloned(old, new):
            return True
    target.unlink()
    return False


def _cloned(old: IO[bytes], new: IO[bytes]) -> bool:
    try:
        fcntl.ioctl(new, _FICLONE, old.fileno())
    except OSError:
        return False
    return True
