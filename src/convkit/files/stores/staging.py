"""Publish an output in a store: objects first, the receipt last.

Files are sent part by part while they are written, where their writer says which bytes are final
(:mod:`convkit.files.stores.outgoing`); the others are made on this machine, and sent at the end. Until then nothing is
to be seen at the target, and what was there stays.

A store can't rename a tree. So while objects appear, ``<DST>.convkit-unfinished`` lies beside the target: as long as
this mark is there, no command of convkit takes what is there for a checkpoint (:meth:`Store.check_finished`). It goes
after the receipt has come. It holds a word of its run's own: if another run writes the same target, the mark, or an
object, is no longer the one that this run made, and no receipt is written.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import tempfile
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import structs

import convkit
from convkit.checkpoint.outlet import Outlet
from convkit.errors import ConvkitError, UsageError
from convkit.files.receipt import receipt_path
from convkit.files.receipt_json import WrittenFile
from convkit.files.staging import Staging, StaleError
from convkit.files.stores.outgoing import SPOOL, Outgoing
from convkit.files.stores.path import StorePath
from convkit.files.stores.sending import PART
from convkit.files.written import files_below


class StoreStaging(Staging):
    """The unfinished output of a target in a store; it lies in a folder of its own in the folder for temporary files.

    Args:
        target: where it will be published.
        refuse: see :class:`Staging`.
        identity: see :class:`Staging`.
    """

    def __init__(
        self, target: StorePath, refuse: Callable[[], None], identity: Mapping[str, Any] | None = None
    ) -> None:
        def refuse_anew() -> None:
            target.forget()
            refuse()

        super().__init__(scratch(target) / target.name, refuse_anew, identity)
        self.target: StorePath = target
        self._store = target.store
        self._outgoing: Outgoing | None = None
        self._mark = target.unfinished

    def hold(self) -> None:
        """See :meth:`Staging.hold`; the folder is of this user alone."""
        folder = self.folder.parent
        folder.mkdir(0o700, parents=True, exist_ok=True)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            raise UsageError("belongs to somebody else", path=folder, remedy="set TMPDIR to a folder of your own")
        super().hold()

    def leave(self) -> None:
        """See :meth:`Staging.leave`."""
        super().leave()
        with contextlib.suppress(OSError):
            self.folder.parent.rmdir()

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self._let_go_of_outgoing(abandon=not self.keeps(kind))
        super().__exit__(kind, *rest)

    def keeps(self, error: type[BaseException] | None) -> bool:
        """See :meth:`Staging.keeps`; what couldn't be sent is kept, too."""
        return super().keeps(error) or (self._outgoing is not None and self._outgoing.failed)

    def restart(self, stale: StaleError) -> None:
        """See :meth:`Staging.restart`."""
        self._let_go_of_outgoing(abandon=True)
        super().restart(stale)

    def outlet(self, algorithm: str) -> Outlet:
        """See :meth:`Staging.outlet`."""
        sending, top = self._store.sending(), self.target.parent.inside
        self._outgoing = Outgoing(self.out, sending, top, algorithm)
        if self.resumed:
            self._outgoing.resume()
        return self._outgoing

    def room(self, nbytes: int) -> int:
        """See :meth:`Staging.room`."""
        return min(nbytes, SPOOL) if self._outgoing and self._outgoing.frees else nbytes

    def seen(self, path: Path) -> Path:
        """See :meth:`Staging.seen`."""
        sent = self._outgoing is not None and self._outgoing.hollow(path)
        return self.target.parent / path.relative_to(self.out) if sent else path

    def send(self, names: Sequence[str], stale: Iterable[Path]) -> None:
        """Send everything except the receipt.

        What was there goes first, its receipt before all. Objects at the top of the target that are small, such as
        indexes and markers by which others recognise a checkpoint, come last, in the order in which they were made.

        Raises:
            ConvkitError: the store refuses it, or another run writes the same target. What was sent stays there, under
                the mark; what is made here stays for the next run.
        """
        self._held_up = True
        self._refuse()
        sending, top, outgoing = self._store.sending(), self.target.parent, self._outgoing
        uploads: list[str] = []
        made: dict[str, str] = {}
        if outgoing:
            outgoing.wait()
            uploads, made = outgoing.names(), outgoing.made()
        mark = sending.put(self._mark.inside, self._word())
        self._remove([receipt_path(self.target)])
        self._remove([*stale, self.target], keep=made)
        for name in names:
            sending.discard(f"{top.inside}/{name}", keep=uploads)
        if outgoing:
            outgoing.complete()
            made = outgoing.made()
        files = {f"{top.inside}/{name}": file for one in names for name, file in files_below(self.out, one)}
        files = {path: file for path, file in files.items() if path not in made}
        last = sorted(filter(self._is_marker, files.values()), key=lambda file: file.stat().st_mtime_ns)
        tags = made | sending.send({path: file for path, file in files.items() if file not in last})
        for file in last:
            tags |= sending.send({path: one for path, one in files.items() if one == file})
        self.target.forget()
        self._check({self._mark.inside: mark, **tags})

    def as_sent(self, written: list[WrittenFile]) -> list[WrittenFile]:
        """See :meth:`Staging.as_sent`: with what the store says of each object."""
        return [self._as_sent(entry) for entry in written]

    def publish(self, names: Sequence[str], stale: Iterable[Path] = ()) -> None:
        """Send the receipt, the only one of these names that wasn't sent, and take the mark away."""
        sending, receipt = self._store.sending(), self.out / receipt_path(self.target).name
        sending.put(f"{self.target.parent.inside}/{receipt.name}", receipt.read_bytes())
        sending.remove([self._mark.inside])
        self._held_up = False
        self.target.forget()

    def _let_go_of_outgoing(self, *, abandon: bool) -> None:
        if self._outgoing is not None:
            self._outgoing.close()
            if abandon:
                self._outgoing.abandon()

    def _remove(self, paths: Iterable[Path], keep: Collection[str] = ()) -> None:
        top = self.target.parent
        found = [f"{top.inside}/{name}" for path in paths for name, _ in files_below(top, path.name)]
        self._store.sending().remove(path for path in found if path not in keep)

    def _is_marker(self, file: Path) -> bool:
        return file.parent == self.out / self.target.name and file.stat().st_size <= PART

    def _check(self, tags: Mapping[str, str]) -> None:
        """Compare what the store has now with what was sent."""
        for path, tag in tags.items():
            try:
                found = self._store.look(path)
            except ConvkitError:
                found = None
            if found is None or found.tag != tag:
                raise ConvkitError(
                    "isn't what was sent: something else writes the target, too",
                    path=self._store.shown(path),
                    remedy="let one run write it, and start again",
                )

    def _as_sent(self, entry: WrittenFile) -> WrittenFile:
        found = self._store.look(f"{self.target.parent.inside}/{entry.name}")
        assert found is not None
        return structs.replace(entry, mtime_ns=found.changed * 10**9, version=found.tag)

    def _word(self) -> bytes:
        said = {"convkit": convkit.__version__, "run": str(uuid.uuid4())}
        return (json.dumps({"unfinished": self.target.name, **said}) + "\n").encode()


def scratch(target: StorePath) -> Path:
    """The folder in which the output for a target is made: always the same one, so that a killed run is resumed."""
    name = hashlib.sha256(str(target).encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir(), f"convkit-{os.getuid()}-{name}")
