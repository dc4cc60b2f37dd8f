"""Where an output grows until it is complete: locked, journaled, then published under its final name.

Beside ``DST`` lies, while it is being made, the folder ``.DST.convkit-part``: a lock, a journal of
the leaves that are finished, and ``out/`` with what will be published. A run that was killed is
resumed by the same plan over the same source, unless the machine went down with it; any other starts
afresh. Publishing renames, the target itself last; what a rename replaces is removed only then.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from convkit.errors import ConvkitError, UsageError

JOURNAL = "journal.jsonl"


class Staging:
    """The growing output of one target path. Use as a context manager: it holds the lock."""

    def __init__(self, target: Path, identity: dict[str, Any], overwrite: bool = False) -> None:
        self.target = target
        self.identity = identity | {"boot": _boot()}
        self.overwrite = overwrite
        self.folder = target.with_name(f".{target.name}.convkit-part")
        self.out = self.folder / "out"
        self.resumed = False
        self.finished: dict[str, Any] = {}
        self._journal: Any = None
        self._lock: int | None = None

    def __enter__(self) -> Staging:
        self._refuse_existing()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._take_lock()
        except OSError as error:
            raise self._unwritable(error) from None
        try:
            self._refuse_existing()  # again: who held the lock may have published since
            self._read_journal()
            if not self.resumed:
                self._start_afresh()
            self._journal = (self.folder / JOURNAL).open("a", encoding="utf-8")
        except BaseException as error:
            self.__exit__(type(error))
            if isinstance(error, OSError):
                raise self._unwritable(error) from None
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if self._journal:
            with contextlib.suppress(OSError):  # what a full disk couldn't take is tried again here
                self._journal.close()
        if kind is None or not issubclass(kind, KeyboardInterrupt):
            shutil.rmtree(self.folder, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)

    def record(self, entry: dict[str, Any]) -> None:
        """Note in the journal that a leaf is finished."""
        self._journal.write(json.dumps(entry) + "\n")
        self._journal.flush()

    def publish(self, names: list[str]) -> None:
        """Rename what is in ``out/`` to its place beside the target, in this order (the target last)."""
        for name in names:
            _sync_tree(self.out / name)
        # killed from here on, the next run finds no journal, and doesn't take what has left for done
        (self.folder / JOURNAL).unlink()
        for name in names:
            final = self.target.with_name(name)
            retired = None
            if final.is_dir() or (final.exists() and (self.out / name).is_dir()):
                retired = self.folder / f"old-{name}"
                final.rename(retired)
            (self.out / name).replace(final)
            if retired:
                _remove(retired)
        _sync(self.target.parent)

    def _unwritable(self, error: OSError) -> ConvkitError:
        problem = f"can't be written: {error.strerror or error}"
        return ConvkitError(problem, path=self.target, remedy="check the path, permissions and free space")

    def _refuse_existing(self) -> None:
        if self.target.exists() and not self.overwrite:
            raise UsageError("exists", path=self.target, remedy="name another target, or say --overwrite")

    def _take_lock(self) -> None:
        path = self.folder / "lock"
        self._lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.samestat(os.fstat(self._lock), path.stat()):
                raise OSError("the file that was locked is gone: its owner has just ended")
        except OSError:
            os.close(self._lock)
            self._lock = None
            raise UsageError(
                "another convkit is writing it", path=self.target, remedy="wait for it, or name another target"
            ) from None

    def _read_journal(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            entries = list(_complete_lines(self.folder / JOURNAL))
            if entries and entries[0] == {"identity": self.identity} and self.out.is_dir():
                self.resumed = True
                self.finished = {entry["key"]: entry for entry in entries[1:]}
                self._write_journal(entries)  # without the line that the kill cut

    def _start_afresh(self) -> None:
        for path in self.folder.iterdir():
            if path.name == "lock":
                continue
            _remove(path)
        self.out.mkdir()
        self._write_journal([{"identity": self.identity}])

    def _write_journal(self, entries: list[dict[str, Any]]) -> None:
        lines = [json.dumps(entry) + "\n" for entry in entries]
        (self.folder / JOURNAL).write_text("".join(lines), encoding="utf-8")


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def _boot() -> str:
    """Which start of the machine this is: what wasn't synced before a crash of it can't be resumed."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return ""


def _complete_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Journal entries; the last line may have been cut by a kill."""
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            return


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sync_tree(path: Path) -> None:
    if path.is_dir():
        for child in path.iterdir():
            _sync_tree(child)
    elif path.stat().st_nlink > 1:
        return  # a file that was there before, under another name: as safe as it is there
    _sync(path)
