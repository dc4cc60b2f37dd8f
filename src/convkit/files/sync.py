"""Bringing files safely to disk: the one place that calls ``fsync``."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

#: files that are synced at a time
_THREADS = 8


def sync(path: Path | int) -> None:
    """A file's bytes, by its path or descriptor; of a folder the names in it.

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
    """A file, or all files below a folder, then the folders.

    A file that has other names too was there before: it is as safe as it is there, and isn't synced.

    Raises:
        OSError: the disk can't take them.
    """
    if not path.is_dir():
        _sync_own(path)
        return
    folders = [Path(folder) for folder, _, _ in os.walk(path)]
    files = [file for folder in folders for file in folder.iterdir() if file.is_file()]
    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(_sync_own, files))
        list(pool.map(sync, folders))


def _sync_own(file: Path) -> None:
    if file.stat().st_nlink == 1:
        sync(file)
