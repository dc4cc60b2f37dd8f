"""Build an output in a staging folder, with a lock and a journal, and publish it under its final name.

While ``DST`` is being made, the folder ``.DST.convkit-part`` lies beside it: it has a lock, a journal of
the finished leaves, and ``out/`` with the files to publish. A run that was killed is
resumed by the same convkit with the same plan over the same source, unless the machine went down with it;
any other run starts afresh. A publication that was interrupted is finished or taken back before anything else
(:mod:`convkit.files.publication`).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import convkit
from convkit.checkpoint import json_text
from convkit.checkpoint.outlet import Outlet
from convkit.errors import ConvkitError, UsageError
from convkit.files import publication
from convkit.files.publication import clear

if TYPE_CHECKING:
    from convkit.files.receipt_json import WrittenFile

JOURNAL = "journal.jsonl"
#: the end of the staging folder's name
PART = ".convkit-part"
#: the version of the journal and of the staged files; a run of another version isn't resumed
JOURNAL_SCHEMA = "convkit.journal/3"
LOCK = "lock"
#: how often to try again if the lock's owner removes the lock meanwhile
_ATTEMPTS = 10


def finally_called(text: str, target: Path) -> str:
    """A text for users, in which files of a target's staging folder are called as they will be once they are published.

    >>> finally_called("/d/.m.convkit-part/out/m.yaml: is no config", Path("/d/m"))
    '/d/m.yaml: is no config'
    >>> finally_called("/d/.m.convkit-part/rewritten/state: a: can't be held", Path("/d/m"))
    "/d/m/state: a: can't be held"
    """
    # that of an output which is made in parts has an "s", and a token while it is laid out
    folder = re.escape(f".{target.name}{PART}") + r"(?:s(?:\.[0-9a-f-]+)?)?"
    text = re.sub(f"{folder}/out/", "", text)
    return re.sub(f"{folder}/(rewritten|payload)", lambda _: target.name, text)


class StaleError(Exception):
    """What a killed run left can't be taken over; the text says why.

    Attributes:
        entries: the keys in the journal of the leaves alone that can't be; empty where all of it can't.
    """

    def __init__(self, why: str, entries: Iterable[str] = ()) -> None:
        super().__init__(why)
        self.entries = tuple(entries)


class Staging:
    """The unfinished output of one target path. Use it as a context manager, which holds the lock.

    Args:
        target: the final file or folder.
        identity: JSON values that identify the output, so that a later run may resume if they are equal; None if
            nothing is journaled.
        refuse: raises a :class:`UsageError` if something under the final names may not be replaced. It is called
            before anything is written, and again before files get their final names.

    Raises:
        UsageError: as ``refuse`` says, or another process is writing the target.
        OSError: the system can't write it; every method may raise it.
    """

    def __init__(self, target: Path, refuse: Callable[[], None], identity: Mapping[str, Any] | None = None) -> None:
        self.target = target
        self._refuse = refuse
        self.folder = target.with_name(f".{target.name}{PART}")
        self.out = self.folder / "out"
        self.resumed = False
        #: the journal's entry for each finished leaf
        self.finished: dict[str, Any] = {}
        #: why an earlier run isn't resumed, where the user should know
        self.warnings: list[str] = []
        self._identity = None if identity is None else {**identity, "boot": _boot()}
        self._journal: Any = None
        self._lock: int | None = None
        #: whether all is made, and only what came up under a final name keeps it from being published
        self._held_up = False

    def __enter__(self) -> Self:
        if not publication.interrupted(self.folder):
            self._refuse()
        self.hold()
        try:
            self._refuse()  # also because the process that held the lock may have published since
        except BaseException:
            self.leave()
            raise
        try:
            self.prepare()
        except BaseException as error:
            self.__exit__(type(error))
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self._close_journal()
        if not self.keeps(kind) and not publication.interrupted(self.folder):
            with contextlib.suppress(OSError):
                self._clear()
        self.leave()

    def hold(self) -> None:
        """Take the lock, and end what a kill interrupted."""
        self._take_lock()
        try:
            publication.recover(self.folder)
        except BaseException:
            self.leave()
            raise

    def leave(self) -> None:
        """Give up the lock, and remove the folder if it holds nothing else."""
        with contextlib.suppress(OSError):
            if [path.name for path in self.folder.iterdir()] == [LOCK]:
                # the lock first: a process that locks the next one finds no folder that is being emptied
                (self.folder / LOCK).unlink()
                self.folder.rmdir()
        self._let_go()

    def prepare(self) -> None:
        """Resume an earlier run, or start afresh."""
        self._read_journal()
        if not self.resumed:
            self._start_afresh()
        self._open_journal()

    def keeps(self, error: type[BaseException] | None) -> bool:
        """Whether to keep the folder after a run that ended with ``error``, so that a later run can resume it."""
        return self._held_up or (error is not None and issubclass(error, KeyboardInterrupt))

    def busy(self) -> ConvkitError:
        """The error to raise if another process holds the lock."""
        return UsageError(
            "another convkit is writing it", path=self.target, remedy="wait for it, or name another target"
        )

    def record(self, entry: dict[str, Any]) -> None:
        """Record in the journal that a leaf is finished."""
        self._journal.write(json.dumps(entry) + "\n")
        self._journal.flush()

    def restart(self, stale: StaleError) -> None:
        """Forget what a killed run left, and start afresh; why becomes a warning."""
        self.warnings.append(f"{stale}: started afresh")
        self._close_journal()
        self.resumed = False
        self.finished = {}
        self._start_afresh()
        self._open_journal()

    def outlet(self, algorithm: str) -> Outlet | None:
        """What takes the bytes of the output as soon as they are final; None where they stay until all are made.

        Args:
            algorithm: of the digests of files that it takes whole.

        Raises:
            StaleError: what a killed run had sent is no longer there.
        """
        return None

    def room(self, nbytes: int) -> int:
        """The bytes of the disk that an output of so many needs."""
        return nbytes

    def seen(self, path: Path) -> Path:
        """Where what is at a path in ``out/`` can be opened once it was sent; here it stays there."""
        return path

    def send(self, names: Sequence[str], stale: Iterable[Path]) -> None:
        """Bring files in ``out/`` to where their names can be given to them. Here they are there already.

        Args:
            names: what will be published, the target last, except the receipt.
            stale: as :meth:`publish`.
        """

    def as_sent(self, written: list[WrittenFile]) -> list[WrittenFile]:
        """What the receipt says of files that were sent, instead of what it would say of them in ``out/``."""
        return written

    def publish(self, names: Sequence[str], stale: Iterable[Path] = ()) -> None:
        """Give files in ``out/`` their places beside the target, all or none, and remove those that are stale.

        Args:
            names: what to publish, the target last.
            stale: files and folders beside the target that make way.

        Raises:
            UsageError: something has come up there that may not be replaced.
        """
        self._held_up = True
        self._refuse()
        self._held_up = False
        publication.publish(self.folder, {self.target.with_name(name): self.out / name for name in names}, stale)

    def _take_lock(self) -> None:
        path = self.folder / LOCK
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
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _open_journal(self) -> None:
        if self._identity is not None:
            self._journal = (self.folder / JOURNAL).open("a", encoding="utf-8")

    def _close_journal(self) -> None:
        if self._journal:
            with contextlib.suppress(OSError):  # closing tries again to write what a full disk couldn't take
                self._journal.close()

    def _read_journal(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            head, *entries = list(complete_lines(self.folder / JOURNAL)) or [{}]
            if head and (head.get("convkit"), head.get("schema")) != (convkit.__version__, JOURNAL_SCHEMA):
                writer = f"convkit {head['convkit']}" if "convkit" in head else "an earlier convkit"
                self.warnings.append(f"a run of {writer} can't be resumed: started afresh")
            elif head == self._head() and self.out.is_dir():
                self.resumed = True
                self.finished = {entry["key"]: entry for entry in entries}
                self._write_journal([head, *entries])  # without a line that a kill cut short

    def _head(self) -> dict[str, Any]:
        return {"schema": JOURNAL_SCHEMA, "convkit": convkit.__version__, "identity": self._identity}

    def _clear(self) -> None:
        """Remove all except the lock; the journal first, so that what a kill leaves half removed isn't resumed."""
        (self.folder / JOURNAL).unlink(missing_ok=True)
        clear(self.folder, keep=[LOCK])

    def _start_afresh(self) -> None:
        self._clear()
        self.out.mkdir()
        if self._identity is not None:
            self._write_journal([self._head()])

    def _write_journal(self, entries: list[dict[str, Any]]) -> None:
        lines = [json.dumps(entry) + "\n" for entry in entries]
        (self.folder / JOURNAL).write_text("".join(lines), encoding="utf-8")


def heal(target: Path) -> None:
    """Finish or take back the publication of ``target`` that a kill interrupted, if one did.

    A command that reads what it replaces calls this before it reads.

    Raises:
        ConvkitError: another process is writing it, or somebody has changed the files since.
        OSError: a move failed.
    """
    staging = Staging(target, lambda: None)
    if publication.interrupted(staging.folder):
        staging.hold()
        staging.leave()


def _boot() -> str:
    """Identify the current boot of the machine: after a crash, files that weren't synced can't be resumed."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return ""


def complete_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Journal entries up to the first line that isn't one; a kill may have cut the last."""
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            entry = json_text.loads(line)
        except ValueError:
            return
        if not isinstance(entry, dict):
            return
        yield entry
