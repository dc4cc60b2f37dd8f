"""Sync files to disk: the only module that calls ``fsync``."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

#: files that are synced at a time
_THREADS = 8


def sync(path: str | Path | int) -> None:
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
    folders, files = [str(path)], []
    for folder in folders:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                elif entry.is_file():
                    files.append(entry.path)
    _sync_all(_sync_own, files)
    _sync_all(sync, folders)


def _sync_all(one: Callable[[str], None], paths: list[str]) -> None:
    """Sync several, some at a time: each thread takes a share, as handing over one takes longer than a fast disk."""
    shares = [paths[n::_THREADS] for n in range(min(_THREADS, len(paths)))]
    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(lambda share: list(map(one, share)), shares))


def _sync_own(file: str | Path) -> None:
    if Path(file).stat().st_nlink == 1:
        sync(file)
