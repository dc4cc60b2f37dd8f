"""The shell of every command that writes: protect existing files, stage, check space, publish, remove stale receipts.

Conversions, repairs and migrations use it like this::

    with publishing(Work(REPAIR, source.path, target, overwrite=overwrite), identity) as output:
        output.make_room(nbytes)
        output.claim(config.name)    # what is to lie beside the target
        ...                          # write output.main, and the files beside it into output.out
        return output.publish(RepairReceipt, plan, target=..., warnings=[...])

Until ``publish``, everything is in a staging folder (:mod:`convkit.files.staging`). A run that was killed is
resumed by the next one with the same ``identity``, which finds the finished leaves in ``output.staging``.
"""

from __future__ import annotations

import contextlib
import errno
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from msgspec import Struct, field
from msgspec.structs import asdict

from convkit.checkpoint.digests import digest_value
from convkit.errors import ConvkitError
from convkit.execute.places import Places, Work
from convkit.files.maker import maker
from convkit.files.receipt import complement_path, receipt_path
from convkit.files.receipt_json import Receipt
from convkit.files.seal import write_sealed
from convkit.files.staging import Staging, StaleError, finally_called
from convkit.files.stores import in_store
from convkit.files.written import Digesting, recorded
from convkit.version import asked

_T = TypeVar("_T")

#: every byte
_ALL = Digesting()


class Output(Struct):
    """The unfinished output: ``main`` becomes the target, and other files in ``out`` its neighbours."""

    work: Work
    staging: Staging
    places: Places
    started: float = field(default_factory=time.monotonic)
    begun: datetime = field(default_factory=lambda: datetime.now(UTC))
    _sent: tuple[list[str], list[Path]] | None = None

    @property
    def target(self) -> Path:
        """The final path, absolute."""
        return self.staging.target

    @property
    def out(self) -> Path:
        """The folder whose content is published."""
        return self.staging.out

    @property
    def main(self) -> Path:
        """The staged target."""
        return self.out / self.target.name

    def make_room(self, nbytes: int) -> None:
        """Check that ``nbytes`` are free on the disk; a resumed run has its space already.

        Raises:
            ConvkitError: the disk is too small.
        """
        if not self.staging.resumed:
            check_room(self.staging.folder, self.staging.room(nbytes), self.target)

    def attempt(self, work: Callable[[], _T]) -> _T:
        """Do the work, and again from the start if what a killed run left turns out to be of no use.

        Where parts have left it, what is of use is kept the first time.
        """
        for _ in range(2):
            try:
                return work()
            except StaleError as stale:
                self._sent = None
                self.staging.restart(stale)
        return work()

    def claim(self, name: str, files: Collection[str] | None = None, *, aside: str | None = None) -> None:
        """Announce a file or folder that will be published beside the target, before it is made in ``out``.

        Args:
            name: its name.
            files: names of the files that a folder of this name may have, to be replaced; None for a file.
            aside: it isn't a part of the output: the receipt doesn't vouch for it, and it replaces nothing. This is
                the remedy if something is there.

        Raises:
            UsageError: what is there may not be replaced.
        """
        self.places.claim(name, files, aside)

    def publish(
        self,
        type_: type[Receipt],
        plan: Mapping[str, Any],
        *,
        warnings: Sequence[str] = (),
        digesting: Digesting = _ALL,
        resumed: bool | None = None,
        **fields: Any,
    ) -> dict[str, Any]:
        """Write the receipt, and give everything its final name; what was left beside the one that is replaced goes.

        Args:
            type_: of the receipt.
            plan: the plan that was carried out; its digest goes into the receipt.
            warnings: warnings for the user; those of the staging are added.
            digesting: how the files that are published are digested for the receipt.
            resumed: what the receipt says of that; None says what the staging was.
            fields: what a receipt of the type says beyond that: ``source``, ``target``, figures.

        Returns:
            The receipt.

        Raises:
            ConvkitError: the source has changed since it was opened.
        """
        names, stale = self._send()
        vouched = [name for name in names if name not in self.places.aside]
        written = self.staging.as_sent(recorded(self.out, vouched, digesting))
        name = receipt_path(self.target).name
        receipt = write_sealed(
            self.out / name,
            type_(
                **asdict(maker()),
                plan=dict(plan),
                plan_digest=digest_value("sha256", plan),
                warnings=[*warnings, *self.staging.warnings],
                started=self.begun.isoformat(timespec="seconds"),
                seconds=round(time.monotonic() - self.started, 3),
                resumed=self.staging.resumed if resumed is None else resumed,
                written=written,
                **fields,
            ).to_json(),
        )
        self._check_source()
        self.staging.publish([*names[:-1], name, names[-1]], stale)
        return receipt

    def seen(self, path: Path) -> Path:
        """Where what is complete at a path in ``out`` can be opened: there, unless nothing of it is left there."""
        if self.staging.seen(path) != path:
            self._send()
        return self.staging.seen(path)

    def _send(self) -> tuple[list[str], list[Path]]:
        """Send all that is made, once; returns the names of what will be published, and of what is stale.

        Raises:
            ConvkitError: the source has changed since it was opened, or it can't be sent.
        """
        if self._sent is None:
            kept = complement_path(self.target)
            beside = [name for name in (kept.name, *self.places.claimed) if (self.out / name).exists()]
            names = list(dict.fromkeys([*beside, self.target.name]))
            receipt = receipt_path(self.target).name
            stale = [stale for stale in self.places.stale() if stale.name not in (*names, receipt)]
            self._check_source()
            self.staging.send(names, stale)
            self._sent = names, stale
        return self._sent

    def _check_source(self) -> None:
        if self.work.watch is not None:
            self.work.watch.check()


def check_room(folder: Path, nbytes: int, target: Path) -> None:
    """Check that ``nbytes`` are free on the disk of a folder.

    Raises:
        ConvkitError: the disk is too small.
    """
    free = shutil.disk_usage(folder).free
    if nbytes > free:
        far = in_store(target)
        disk = f"the disk of {folder.parent}" if far else "the disk"
        raise ConvkitError(
            f"needs {nbytes / 1e9:.2f} GB, {disk} has {free / 1e9:.2f} GB free",
            path=target,
            remedy="free space, or set TMPDIR to a folder with room"
            if far
            else "free space, or name a target elsewhere",
        )


@contextlib.contextmanager
def publishing(work: Work, identity: dict[str, Any], staged: Callable[..., Staging] = Staging) -> Iterator[Output]:
    """Open the staged output of a task; no file gets its final name unless it is published.

    Args:
        work: the task.
        identity: JSON values that identify the output, so that a later run may resume if they are equal.
        staged: makes the staging, of what :class:`~convkit.files.staging.Staging` takes.

    Raises:
        UsageError: the target exists, is or holds the source, isn't from convkit, or another process is writing it.
        ConvkitError: the system can't write it.
    """
    asked()  # the receipt names the commit
    places = Places(work)
    target = places.target
    if in_store(target):
        from convkit.files.stores.staging import StoreStaging

        staged = StoreStaging
    with telling(target), staged(target, places.refuse, identity | {"kind": work.kind}) as staging:
        yield Output(work, staging, places)


@contextlib.contextmanager
def telling(target: Path) -> Iterator[None]:
    """Name the target in errors, instead of a staging folder, of which users know nothing."""
    with writing(target):
        try:
            yield
        except ConvkitError as error:
            raise _told_finally(error, target) from error.__cause__


def _told_finally(error: ConvkitError, target: Path) -> ConvkitError:
    """The error without the staging folder, of which users know nothing, and which is gone when they read this."""
    path, problem, remedy = (
        text and _finally_called(text, target) for text in (error.path, error.problem, error.remedy)
    )
    if (path, problem, remedy) == (error.path, error.problem, error.remedy):
        return error
    return type(error)(problem or "", path=path, key=error.key, remedy=remedy)


def _finally_called(text: str, target: Path) -> str:
    text = finally_called(text, target)
    if not in_store(target):
        return text
    from convkit.files.stores.staging import scratch

    return text.replace(str(scratch(target)), str(target.parent))


@contextlib.contextmanager
def writing(target: Path) -> Iterator[None]:
    """Turn an error of the system into a :class:`ConvkitError` that names the target."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        remedy = "free space, or name a target elsewhere" if full else "check the path, permissions and free space"
        raise ConvkitError(f"can't be written: {error.strerror or error}", path=target, remedy=remedy) from None
