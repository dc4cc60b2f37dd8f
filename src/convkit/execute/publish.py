"""The shell of every kind of work: refuse to replace, stage, make room, publish with a receipt, clear stale ones.

A conversion, a repair or a migration is a policy over it::

    with publishing(Work(REPAIR, source.path, target, overwrite=overwrite), identity) as output:
        output.make_room(nbytes)
        ...                          # write output.main, and what lies beside it into output.out
        return output.publish(plan, beside=[config.name], target={...}, warnings=[...])

Until ``publish`` everything lies in a staging folder (:mod:`convkit.files.staging`). A run that was killed is
resumed by the next one of the same ``identity``, which finds what is finished in ``output.staging``.
"""

from __future__ import annotations

import contextlib
import errno
import json
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
from convkit.files.receipt import CONVERSION, SCHEMA, complement_path, read_receipt, receipt_path, receipts_beside
from convkit.files.staging import Staging, remove


@dataclass(frozen=True)
class Work:
    """What is to be made from what, and what it may replace.

    Attributes:
        kind: the word for it in the receipt.
        source: the file or folder that is read; it is only read, except ``in_place``.
        target: the file or folder to make.
        overwrite: replace an existing target, once the new one is complete.
        in_place: the target is the source.
        below_source: whether the target may lie in the source's folder.
        only_own: replace nothing that convkit didn't write; else a file, or an empty folder, may be anybody's.
    """

    kind: str
    source: Path
    target: Path
    overwrite: bool = False
    in_place: bool = False
    below_source: bool = True
    only_own: bool = False


@dataclass
class Output:
    """The growing output of a work: ``main`` is to become the target, what else lies in ``out`` its neighbours."""

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
        """Where the target grows."""
        return self.out / self.target.name

    def make_room(self, nbytes: int) -> None:
        """Check that ``nbytes`` are free on the disk; a resumed run has taken its room already.

        Raises:
            ConvkitError: they aren't.
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
        plan: Mapping[str, Any],
        beside: Sequence[str] = (),
        *,
        warnings: Sequence[str] = (),
        within: AbstractContextManager[object] | None = None,
        **fields: Any,
    ) -> dict[str, Any]:
        """Write the receipt, give everything its final name, remove what was left beside the one that is replaced.

        Args:
            plan: what was done; its digest goes into the receipt.
            beside: names in ``out`` that are published beside the target. The complement is, if it is there.
            warnings: what the user should know; those of the staging are added.
            within: entered while names change.
            fields: what the receipt says beyond that: ``source``, ``target``, figures.

        Returns:
            The receipt.
        """
        receipt = {
            "schema": SCHEMA,
            "kind": self.work.kind,
            "convkit": convkit.__version__,
            "plan": plan,
            "plan_digest": digest_value("sha256", plan),
            **fields,
            "warnings": [*warnings, *self.staging.warnings],
            "started": self.begun.isoformat(timespec="seconds"),
            "seconds": round(time.monotonic() - self.started, 3),
            "resumed": self.staging.resumed,
        }
        path, kept = receipt_path(self.target), complement_path(self.target)
        (self.out / path.name).write_text(json.dumps(receipt, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        complement = [kept.name] if (self.out / kept.name).exists() else []
        names = [*complement, path.name, *beside, self.target.name]
        left = [*receipts_beside(self.target), kept]
        if not self.work.in_place:
            left = left_beside(self.target, self.work.source.absolute())
        with within or nullcontext():
            self.staging.publish(names)
        for stale in left:
            if stale.name not in names:
                remove(stale)
        return receipt


@contextlib.contextmanager
def publishing(work: Work, identity: dict[str, Any]) -> Iterator[Output]:
    """The staged output of a work; nothing is left under a final name unless it is published.

    Args:
        work: what is made.
        identity: JSON values by which a later run knows that it would make the same, and may go on.

    Raises:
        UsageError: the target exists, is or holds the source, isn't convkit's, or another process is writing it.
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
    """Raise :class:`ConvkitError`, which names the target, for what the system says."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        remedy = "free space, or name a target elsewhere" if full else "check the path, permissions and free space"
        raise ConvkitError(f"can't be written: {error.strerror or error}", path=target, remedy=remedy) from None


def _refuse_place(work: Work, target: Path) -> None:
    """The target isn't a part of the source.

    Raises:
        UsageError: it is.
    """
    if not work.below_source and work.source.resolve() in target.resolve().parents:
        raise UsageError("lies inside the source", path=target, remedy="name a target elsewhere")


def _refuse_to_replace(work: Work, target: Path) -> None:
    """What is replaced is convkit's own work, and not the source unless that is asked for.

    Raises:
        UsageError: it is something else; or a conversion in place, whose receipt would no longer be true.
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
