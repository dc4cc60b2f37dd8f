"""Build an output in a staging folder, with a lock and a journal, and publish it under its final name.

While ``DST`` is being made, the folder ``.DST.convkit-part`` lies beside it: it has a lock, a journal of
the finished leaves, and ``out/`` with the files to publish. A run that was killed is
resumed by the same convkit with the same plan over the same source, unless the machine went down with it;
any other run starts afresh. Publishing renames, the target last; a replaced file is removed only after its rename.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import convkit
from convkit.checkpoint import json_text
from convkit.errors import ConvkitError, UsageError
from convkit.files.sync import sync, sync_tree

JOURNAL = "journal.jsonl"
#: the version of the journal and of the staged files; a run of another version isn't resumed
JOURNAL_SCHEMA = "convkit.journal/2"
#: how often to try again if the lock's owner removes the lock meanwhile
_ATTEMPTS = 10


class Staging:
    """The unfinished output of one target path. Use it as a context manager, which holds the lock.

    Args:
        target: the final file or folder.
        identity: JSON values that identify the output, so that a later run may resume if they are equal; None if
            nothing is journaled.
        overwrite: whether an existing target may be replaced.

    Raises:
        UsageError: the target exists, or another process is writing it.
        OSError: the system can't write it; every method may raise it.
    """

    def __init__(self, target: Path, identity: Mapping[str, Any] | None = None, overwrite: bool = False) -> None:
        self.target = target
        self.overwrite = overwrite
        self.folder = target.with_name(f".{target.name}.convkit-part")
        self.out = self.folder / "out"
        self.resumed = False
        #: the journal's entry for each finished leaf
        self.finished: dict[str, Any] = {}
        #: why an earlier run isn't resumed, where the user should know
        self.warnings: list[str] = []
        self._identity = None if identity is None else {**identity, "boot": _boot()}
        self._journal: Any = None
        self._lock: int | None = None

    def __enter__(self) -> Self:
        self._refuse_existing()
        self._take_lock()
        try:
            self._refuse_existing()  # again: the process that held the lock may have published since
            self.prepare()
        except BaseException as error:
            self.__exit__(type(error))
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if self._journal:
            with contextlib.suppress(OSError):  # closing tries again to write what a full disk couldn't take
                self._journal.close()
        if not self.keeps(kind):
            shutil.rmtree(self.folder, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)

    def prepare(self) -> None:
        """Resume an earlier run, or start afresh."""
        self._read_journal()
        if not self.resumed:
            self._start_afresh()
        if self._identity is not None:
            self._journal = (self.folder / JOURNAL).open("a", encoding="utf-8")

    def keeps(self, error: type[BaseException] | None) -> bool:
        """Whether to keep the folder after a run that ended with ``error``, so that a later run can resume it."""
        return error is not None and issubclass(error, KeyboardInterrupt)

    def busy(self) -> ConvkitError:
        """The error to raise if another process holds the lock."""
        return UsageError(
            "another convkit is writing it", path=self.target, remedy="wait for it, or name another target"
        )

    def record(self, entry: dict[str, Any]) -> None:
        """Record in the journal that a leaf is finished."""
        self._journal.write(json.dumps(entry) + "\n")
        self._journal.flush()

    def publish(self, names: Sequence[str]) -> None:
        """Move files from ``out/`` to their places beside the target, in this order (the target last)."""
        self.rename({self.out / name: self.target.with_name(name) for name in names})

    def rename(self, finals: Mapping[Path, Path]) -> None:
        """Sync the staged files, then move them to their final names, in this order; what was there is removed."""
        for staged in finals:
            sync_tree(staged)
        # if killed from here on, the next run finds no journal, so it doesn't expect files that have moved
        (self.folder / JOURNAL).unlink(missing_ok=True)
        for staged, final in finals.items():
            old = self.folder / f"old-{final.name}"
            # folders can't be exchanged portably: a kill between the renames leaves no target, but never half of one
            if os.path.lexists(final) and (final.is_dir() or staged.is_dir()):
                remove(old)
                final.rename(old)
            staged.replace(final)
            remove(old)
        for folder in dict.fromkeys(final.parent for final in finals.values()):
            sync(folder)

    def _refuse_existing(self) -> None:
        if self.target.exists() and not self.overwrite:
            raise UsageError("exists", path=self.target, remedy="name another target, or say --overwrite")

    def _take_lock(self) -> None:
        path = self.folder / "lock"
        for _ in range(_ATTEMPTS):
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                self._lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            except FileNotFoundError:  # its last owner is removing the folder
                continue
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.path.samestat(os.fstat(self._lock), path.stat()):
                    return
            except BlockingIOError:
                self._let_go()
                break
            except FileNotFoundError:
                pass
            except OSError:
                self._let_go()
                raise
            self._let_go()  # the file that we locked has lost its name, because its owner has just ended
        raise self.busy()

    def _let_go(self) -> None:
        assert self._lock is not None
        os.close(self._lock)
        self._lock = None

    def _read_journal(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            head, *entries = list(_complete_lines(self.folder / JOURNAL)) or [{}]
            if head and (head.get("convkit"), head.get("schema")) != (convkit.__version__, JOURNAL_SCHEMA):
                writer = f"convkit {head['convkit']}" if "convkit" in head else "an earlier convkit"
                self.warnings.append(f"a run of {writer} can't be resumed: started afresh")
            elif head == self._head() and self.out.is_dir():
                self.resumed = True
                self.finished = {entry["key"]: entry for entry in entries}
                self._write_journal([head, *entries])  # without a line that a kill cut short

    def _head(self) -> dict[str, Any]:
        return {"schema": JOURNAL_SCHEMA, "convkit": convkit.__version__, "identity": self._identity}

    def _start_afresh(self) -> None:
        for path in self.folder.iterdir():
            if path.name != "lock":
                remove(path)
        self.out.mkdir()
        if self._identity is not None:
            self._write_journal([self._head()])

    def _write_journal(self, entries: list[dict[str, Any]]) -> None:
        lines = [json.dumps(entry) + "\n" for entry in entries]
        (self.folder / JOURNAL).write_text("".join(lines), encoding="utf-8")


def remove(path: Path) -> None:
    """Remove a file, a link or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _boot() -> str:
    """Identify the current boot of the machine: after a crash, files that weren't synced can't be resumed."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return ""


def _complete_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Journal entries up to the first line that isn't one; a kill may have cut the last."""
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            entry = json_text.loads(line)
        except ValueError:
            return
        if not isinstance(entry, dict):
            return
        yield entry
