"""Sync files to disk: the only module that calls ``fsync``."""

from __future__ import annotations

import errno
import math
import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from pathlib import Path

#: files that are synced at a time
_THREADS = 8
#: bytes that are written before the disk is to take them, and the least that count: small files wait for the end
_AHEAD, _LEAST = 16 << 20, 1 << 20
#: of ``sync_file_range``: begin to write all that isn't written, and wait for nothing
_WRITE = 2
#: the least that may crowd the page cache
_LARGE = 1 << 30
_MEMORY = Path("/proc/meminfo")


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
    """Lets the disk take what was written while more is written, so that little is left to sync at the end.

    A thread of its own asks for it, because a busy disk lets it wait. Nothing is synced before others sync it.

    Args:
        nbytes: how much will be written. What can't stay in memory beside what it is made from leaves the page cache
            as soon as the disk has it, and what is written next takes its pages: fresh ones would cost more, and drive
            out the source.
    """

    def __init__(self, nbytes: int = 0) -> None:
        self._begin = _begin_and_drop if _crowds(nbytes) else _begin
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
                self._begun = [one for one in self._begun if not one.done() or one.exception()]
                self._begun.append(self._thread.submit(_begin_each, self._begin, self._files))
                self._files, self._bytes = set(), 0

    def wait(self) -> None:
        """Wait until the disk was asked for all.

        Raises:
            OSError: it can't take something.
        """
        for begun in self._begun:
            begun.result()

    def close(self) -> None:
        """Ask for no more, and end the thread."""
        self._thread.shutdown(cancel_futures=True)


def _begin_each(begin: Callable[[int], None], files: Iterable[str | Path | int]) -> None:
    for file in files:
        if isinstance(file, int):
            begin(file)
            continue
        opened = os.open(file, os.O_RDONLY)
        try:
            begin(opened)
        finally:
            os.close(opened)


def _begin(file: int) -> None:
    """Let the disk begin to take what was written; a system that can't say so syncs it."""
    import ctypes

    begin = _sync_file_range()
    if begin is not None and begin(file, 0, 0, _WRITE) == 0:
        return
    if begin is not None and (number := ctypes.get_errno()) in (errno.EIO, errno.ENOSPC, errno.EDQUOT):
        raise OSError(number, os.strerror(number))
    os.fsync(file)


def _begin_and_drop(file: int) -> None:
    """Let the disk begin to take what was written, and forget what it has taken."""
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)


def _crowds(nbytes: int) -> bool:
    """Whether so many bytes, and as many of a source, would leave little of the memory that is free."""
    if nbytes < _LARGE or not hasattr(os, "posix_fadvise"):
        return False
    return nbytes > _available() / 3


def _available() -> float:
    """Bytes of memory that are free or hold what can be read again; any number of them where the system doesn't say."""
    try:
        lines = _MEMORY.read_text().splitlines()
    except OSError:
        return math.inf
    found = (line.split()[1] for line in lines if line.startswith("MemAvailable:"))
    return float(next(found, math.inf)) * 1024


@cache
def _sync_file_range() -> Callable[[int, int, int, int], int] | None:
    """Linux's function of this name; of a file, two offsets and flags."""
    import ctypes

    found = getattr(ctypes.CDLL(None, use_errno=True), "sync_file_range", None)
    if found is not None:
        found.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    return found


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
