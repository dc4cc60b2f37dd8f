"""The shell of every command that writes: protect existing files, stage, check space, publish, remove stale receipts.

Conversions, repairs and migrations use it like this::

    with publishing(Work(REPAIR, source.path, target, overwrite=overwrite), identity) as output:
        output.make_room(nbytes)
        ...                          # write output.main, and the files beside it into output.out
        return output.publish(RepairReceipt, plan, beside=[config.name], target=..., warnings=[...])

Until ``publish``, everything is in a staging folder (:mod:`convkit.files.staging`). A run that was killed is
resumed by the next one with the same ``identity``, which finds the finished leaves in ``output.staging``.
"""

from __future__ import annotations

import contextlib
import errno
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import convkit
from convkit.checkpoint.digests import digest_value
from convkit.errors import ConvkitError, UsageError
from convkit.files.neighbours import left_beside
from convkit.files.receipt import CONVERSION, complement_path, read_receipt, receipt_path, receipts_beside
from convkit.files.receipt_json import Receipt
from convkit.files.seal import sealed
from convkit.files.staging import Staging, remove
from convkit.files.unchanged import Watch
from convkit.files.written import Digesting, recorded

#: every byte
_ALL = Digesting()


@dataclass(frozen=True)
class Work:
    """A task: its source, its target, and what it may replace.

    Attributes:
        kind: the word for it in the receipt.
        source: the file or folder that is read; it is only read, except ``in_place``.
        target: the file or folder to make.
        overwrite: replace an existing target, once the new one is complete.
        in_place: whether the target is the source.
        below_source: whether the target may lie in the source's folder.
        only_own: replace nothing that convkit didn't write; else a file, or an empty folder, may be anybody's.
        watch: the files that are read: nothing is published if one of them has changed.
    """

    kind: str
    source: Path
    target: Path
    overwrite: bool = False
    in_place: bool = False
    below_source: bool = True
    only_own: bool = False
    watch: Watch | None = None


@dataclass
class Output:
    """The unfinished output: ``main`` becomes the target, and other files in ``out`` its neighbours."""

    work: Work
    staging: Staging
    started: float = field(default_factory=time.monotonic)
    begun: datetime = field(default_factory=lambda: datetime.now(UTC))

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
        if self.staging.resumed:
            return
        free = shutil.disk_usage(self.staging.folder).free
        if nbytes > free:
            raise ConvkitError(
                f"needs {nbytes / 1e9:.2f} GB, the disk has {free / 1e9:.2f} GB free",
                path=self.target,
                remedy="free space, or name a target elsewhere",
            )

    def publish(
        self,
        type_: type[Receipt],
        plan: Mapping[str, Any],
        beside: Sequence[str] = (),
        *,
        warnings: Sequence[str] = (),
        digesting: Digesting = _ALL,
        within: AbstractContextManager[object] | None = None,
        **fields: Any,
    ) -> dict[str, Any]:
        """Write the receipt, give everything its final name, remove what was left beside the one that is replaced.

        Args:
            type_: of the receipt.
            plan: the plan that was carried out; its digest goes into the receipt.
            beside: names in ``out`` that are published beside the target. The complement is, if it is there.
            warnings: warnings for the user; those of the staging are added.
            digesting: how the files that are published are digested for the receipt.
            within: context manager that is entered while names change.
            fields: what a receipt of the type says beyond that: ``source``, ``target``, figures.

        Returns:
            The receipt.

        Raises:
            ConvkitError: the source has changed since it was opened.
        """
        path, kept = receipt_path(self.target), complement_path(self.target)
        complement = [kept.name] if (self.out / kept.name).exists() else []
        receipt, data = sealed(
            type_(
                convkit=convkit.__version__,
                plan=dict(plan),
                plan_digest=digest_value("sha256", plan),
                warnings=[*warnings, *self.staging.warnings],
                started=self.begun.isoformat(timespec="seconds"),
                seconds=round(time.monotonic() - self.started, 3),
                resumed=self.staging.resumed,
                written=recorded(self.out, [*complement, *beside, self.target.name], digesting),
                **fields,
            ).to_json()
        )
        (self.out / path.name).write_bytes(data)
        names = [*complement, path.name, *beside, self.target.name]
        left = [*receipts_beside(self.target), kept]
        if not self.work.in_place:
            left = left_beside(self.target, self.work.source.absolute())
        if self.work.watch is not None:
            self.work.watch.check()
        with within or nullcontext():
            self.staging.publish(names)
        for stale in left:
            if stale.name not in names:
                remove(stale)
        return receipt


@contextlib.contextmanager
def publishing(work: Work, identity: dict[str, Any]) -> Iterator[Output]:
    """Open the staged output of a task; no file gets its final name unless it is published.

    Args:
        work: the task.
        identity: JSON values that identify the output, so that a later run may resume if they are equal.

    Raises:
        UsageError: the target exists, is or holds the source, isn't from convkit, or another process is writing it.
        ConvkitError: the system can't write it.
    """
    target = work.target.absolute()
    _refuse_place(work, target)
    if work.overwrite or work.in_place:
        _refuse_to_replace(work, target)
    identity = identity | {"kind": work.kind}
    with writing(target), Staging(target, identity, work.overwrite or work.in_place) as staging:
        yield Output(work, staging)


@contextlib.contextmanager
def writing(target: Path) -> Iterator[None]:
    """Turn an error of the system into a :class:`ConvkitError` that names the target."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        remedy = "free space, or name a target elsewhere" if full else "check the path, permissions and free space"
        raise ConvkitError(f"can't be written: {error.strerror or error}", path=target, remedy=remedy) from None


def _refuse_place(work: Work, target: Path) -> None:
    """Check that the target isn't a part of the source.

    Raises:
        UsageError: it is a part of the source.
    """
    if not work.below_source and work.source.resolve() in target.resolve().parents:
        raise UsageError("lies inside the source", path=target, remedy="name a target elsewhere")


def _refuse_to_replace(work: Work, target: Path) -> None:
    """Check that only convkit's own output is replaced, and the source only on request.

    Raises:
        UsageError: it is something else; or a conversion in place, whose receipt would become false.
    """
    real, kept = target.resolve(), work.source.resolve()
    if work.in_place:
        if read_receipt(target, CONVERSION) is not None:
            raise UsageError("is a conversion with a receipt, which would be false", path=target, remedy="name another")
        return
    if real == kept or real in kept.parents:
        raise UsageError("is the source, or holds it", path=target, remedy="name another target")
    if receipts_beside(target):
        return
    if target.exists() and (work.only_own or (target.is_dir() and any(target.iterdir()))):
        what = "folder" if target.is_dir() else "file"
        raise UsageError(
            f"is a {what} that convkit didn't write", path=target, remedy="remove it yourself, or name another target"
        )
