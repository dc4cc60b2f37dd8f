"""Sync files to disk: the only module that calls ``fsync``."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

#: files that are synced at a time
_THREADS = 8
#: bytes that are written before they are synced ahead, and the least that count: small files wait for the end
_AHEAD, _LEAST = 64 << 20, 1 << 20


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


class Ahead:
    """Syncs what was written while more is written, in a thread of its own, so that little is left to sync at the end.

    What is written later to the same files is synced by others.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "sync")
        self._begun: list[Future[None]] = []
        self._files: set[str | Path | int] = set()
        self._bytes = 0
        self._lock = threading.Lock()

    def wrote(self, file: str | Path | int, nbytes: int) -> None:
        """Say that so many bytes of a file were written; a descriptor stays open until :meth:`close`."""
        if nbytes < _LEAST:
            return
        with self._lock:
            self._files.add(file)
            self._bytes += nbytes
            if self._bytes >= _AHEAD:
                self._begun.append(self._thread.submit(_sync_each, self._files))
                self._files, self._bytes = set(), 0

    def wait(self) -> None:
        """Wait for what is being synced.

        Raises:
            OSError: the disk can't take it.
        """
        for begun in self._begun:
            begun.result()

    def close(self) -> None:
        """Leave out what isn't synced yet, and end the thread."""
        self._thread.shutdown(cancel_futures=True)


def _sync_each(files: Iterable[str | Path | int]) -> None:
    for file in files:
        sync(file)


def sync_tree(*paths: Path) -> None:
    """Sync files, and all files below folders, and then the folders; a disk takes those that come together at once.

    A file with further names existed before: it is as safe as it was then, and isn't synced.

    Raises:
        OSError: the disk can't take them.
    """
    folders = [str(path) for path in paths if path.is_dir()]
    files = [str(path) for path in paths if not path.is_dir()]
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
    if len(paths) < 2:
        for path in paths:
            one(path)
        return
    shares = [paths[n::_THREADS] for n in range(min(_THREADS, len(paths)))]
    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(lambda share: list(map(one, share)), shares))


def _sync_own(file: str | Path) -> None:
    if Path(file).stat().st_nlink == 1:
        sync(file)
