"""What a killed run of the workflow leaves behind: Snakemake's lock files, and jobs that still work.

Snakemake's lock files don't show whose they are. So each run records which are its own, in a file that it keeps
locked while it lives: the system unlocks it when the process ends, however it ends. Lock files are removed only where
their run has provably ended: its record is unlocked, was made on this host, and names these very files.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from uuid import uuid4

#: where runs are recorded, below the folder in which Snakemake runs
RECORDS = Path(".snakemake/convkit")
#: the variable by which the processes of a run are recognised
VARIABLE = "CONVKIT_RUN"
#: seconds between two looks at the processes of a killed run
_PAUSE = 0.2


@dataclass(frozen=True)
class LockFile:
    """A lock file of Snakemake; no other file has its path, its inode and its time of change (ns)."""

    path: str
    inode: int
    mtime_ns: int


@dataclass(frozen=True)
class Record:
    """A run: its host, its process, and Snakemake's lock files that belong to it."""

    host: str
    process: int
    locks: tuple[LockFile, ...]

    @classmethod
    def read(cls, text: bytes) -> Record:
        """The record that a run wrote.

        Raises:
            ValueError: it isn't one.
        """
        try:
            found = json.loads(text)
            return cls(str(found["host"]), int(found["process"]), tuple(LockFile(**lock) for lock in found["locks"]))
        except (KeyError, TypeError) as error:
            raise ValueError("no record of a run") from error


class Run:
    """This run, recorded from before its first job until its end.

    Args:
        locks: paths of the lock files that Snakemake made for it.
    """

    def __init__(self, locks: Iterable[str]) -> None:
        for path, _ in _ended():
            _wait_for_jobs_of(path.stem)
            path.unlink(missing_ok=True)
        RECORDS.mkdir(parents=True, exist_ok=True)
        self._path = RECORDS / f"{uuid4().hex}.json"
        self._file = self._path.open("wb", buffering=0)
        record = Record(socket.gethostname(), os.getpid(), tuple(filter(None, map(_lock_file, locks))))
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX)
            self._file.write(json.dumps(asdict(record)).encode())
        except OSError:  # a file system without locks: there, no run's end can be proved
            self._path.unlink()
        os.environ[VARIABLE] = self._path.stem  # the jobs inherit it

    def end(self) -> None:
        """Remove the record: nothing of the run is left."""
        self._path.unlink(missing_ok=True)
        self._file.close()


def remove_stale_locks() -> list[Path]:
    """Remove the lock files of runs that have provably ended; returns their paths."""
    stale = [Path(lock.path) for _, record in _ended() for lock in record.locks if _lock_file(lock.path) == lock]
    for path in stale:
        path.unlink(missing_ok=True)
    return stale


def _ended() -> Iterator[tuple[Path, Record]]:
    """The runs on this host that have ended without removing their record, which is kept locked meanwhile."""
    for path in sorted(RECORDS.glob("*.json")):
        try:
            with path.open("r+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                record = Record.read(file.read())
                if record.host == socket.gethostname():
                    yield path, record
        except (OSError, ValueError):  # the run lives, or its end can't be proved
            continue


def _lock_file(path: str) -> LockFile | None:
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return LockFile(path, found.st_ino, found.st_mtime_ns)


def _wait_for_jobs_of(run: str) -> None:
    """Wait until no process of a killed run works: it would write the files that this run is about to make."""
    said = False
    while working := _processes_of(run):
        if not said:
            end_them = f"to go on at once: kill {' '.join(map(str, working))}"
            print(f"convkit: waiting for processes that a killed run left ({end_them})", file=sys.stderr, flush=True)
        said = True
        time.sleep(_PAUSE)


def _processes_of(run: str) -> list[int]:
    """The processes that a run started, as far as the system shows them to this user."""
    mark = f"{VARIABLE}={run}".encode()
    own, found = str(os.getpid()), []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if path.parent.name != own and mark in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
        except OSError:  # it has ended, or belongs to another user
            continue
    return sorted(found)
