"""Sync files to disk: the only module that calls ``fsync``."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

#: files that are synced at a time
_THREADS = 8


def sync(path: Path | int) -> None:
    """Sync a file's bytes, or the names in a folder; given by path or descriptor.

    Raises:
        OSError: the disk can't take them.
    """
    if isinstance(path, int):
        os.fsync(path)
        return
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def sync_tree(path: Path) -> None:
    """Sync a file, or all files below a folder and then the folders.

    A file with further names existed before: it is as safe as it was then, and isn't synced.

    Raises:
        OSError: the disk can't take them.
    """
    if not path.is_dir():
        _sync_own(path)
        return
    folders, files = [path], []
    for folder in folders:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(Path(entry))
                elif entry.is_file():
                    files.append(Path(entry))
    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(_sync_own, files))
        list(pool.map(sync, folders))


def _sync_own(file: Path) -> None:
    if file.stat().st_nlink == 1:
        sync(file)
