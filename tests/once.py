"""What is made once a run of pytest, in whichever of its processes asks first."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

#: names the folder of the run, which ``conftest.py`` makes and removes
FOLDER = "CONVKIT_TESTS_FOLDER"


def once(name: str, make: Callable[[Path], None]) -> Path:
    """The folder of that name, which ``make`` has filled; nobody changes what lies in it."""
    folder = Path(os.environ[FOLDER], name)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            made = folder.with_suffix(".made")
            made.mkdir()
            make(made)
            made.rename(folder)
    return folder
