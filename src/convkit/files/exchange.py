"""Exchange what two names stand for in one step, where the system can (``renameat2`` of Linux)."""

from __future__ import annotations

import os
from pathlib import Path

#: of ``renameat2``: relative paths start in the working folder; both names stay (linux/fs.h, linux/fcntl.h)
_HERE, _EXCHANGE = -100, 2


def exchange(one: Path, other: Path) -> bool:
    """Exchange two files or folders; False, with nothing done, where the system or the file system can't."""
    import ctypes

    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):  # another system, or an older C library
        return False
    return rename(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0
