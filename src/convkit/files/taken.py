"""Check beforehand that what lies under a final name may be replaced."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from convkit.checkpoint.source_files import Ranged
from convkit.errors import UsageError

#: where the kernel lists what is mounted for a process
_MOUNTS = Path("/proc/self/mountinfo")
_OCTAL = re.compile(rb"\\([0-7]{3})")


REMEDY = "name another target, or say --overwrite"


def refuse_taken(path: Path, *, overwrite: bool, folder: bool = False, remedy: str = REMEDY) -> None:
    """Check that nothing is at ``path``, or what may be replaced.

    Args:
        path: a final name.
        overwrite: whether a file may be replaced.
        folder: whether a folder may be, too.
        remedy: for the error if something is there, and nothing may be replaced.

    Raises:
        UsageError: something else is there, or a link, or a mount point.
    """
    if path.is_symlink():
        real = path.readlink()
        raise UsageError(f"is a link to {real}", path=path, remedy="name the file or folder itself, or remove the link")
    if not path.exists():
        return
    if not overwrite:
        raise UsageError("exists", path=path, remedy=remedy)
    if path.is_dir() and not folder:
        raise UsageError(
            "is a folder that convkit didn't write", path=path, remedy="remove it yourself, or name another target"
        )
    if not isinstance(path, Ranged) and is_mount_point(path):
        raise UsageError("is a mount point, which can't be replaced", path=path, remedy="name another target")


def refuse_foreign(folder: Path, found: Sequence[Path]) -> None:
    """Refuse to replace a folder in which files of others were found.

    Raises:
        UsageError: there is one.
    """
    if found:
        raise UsageError(
            f"holds {found[0].relative_to(folder)}, which convkit didn't write",
            path=folder,
            remedy="move it elsewhere, or name another target",
        )


def is_mount_point(path: Path) -> bool:
    """Whether another file system, or another part of the same, is mounted at a file or folder."""
    try:
        lines = _MOUNTS.read_bytes().splitlines()
    except OSError:
        return os.path.ismount(path)
    real = os.fsencode(path.resolve())
    mounted = (_OCTAL.sub(lambda found: bytes([int(found[1], 8)]), line.split()[4]) for line in lines)
    return real in mounted or os.path.ismount(path)
