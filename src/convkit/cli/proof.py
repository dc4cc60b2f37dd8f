"""What an earlier run of ``convkit prove`` has left beside a target, and what of it is still right.

``<DST>.prove.json`` records what the output and the verdicts were made from: the state of each file of the source, the
options, and the seal of the receipt. Anything else now, and it is made again. An output without such a record was
converted by hand: then the digests of its source decide.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from msgspec import structs

import convkit
from convkit.cli.report import altered
from convkit.errors import ConvkitError, UsageError
from convkit.files.document import Document, as_json, read_json, typed, write_whole
from convkit.files.neighbours import STAGES, is_ours, prove_path, stage_path
from convkit.files.receipt import read_receipt
from convkit.files.unchanged import Watch, state_of
from convkit.report.standing import stale

#: options by which a verdict may be another one
_COMPARING = ("probe_length", "faults", "stages", "device", "memory", "source_recorded", "target_recorded")
_DECIDE: dict[str, tuple[str, ...]] = {"roundtrip": (), "equivalence": _COMPARING}

#: what is wrong, by whether the source is the one that was converted
_ANOTHER = {True: None, False: "was made of another source"}


class Record(Document, frozen=True, kw_only=True):
    """What the documents beside a target were made from."""

    schema: Literal["convkit.prove/1"] = "convkit.prove/1"
    convkit: str = convkit.__version__
    #: as the user named the source, without credentials
    source: str
    #: of each file of the source: path, device, inode, size, time of change
    files: list[list[Any]]
    #: how the output was to be written
    asked: dict[str, Any]
    #: the seal of the receipt
    receipt: str
    #: by check, the options with which it was made
    checks: dict[str, dict[str, str]]


@dataclass(frozen=True)
class Work:
    """What is to be proved: the plan, its digest, the files of the source, and how it is carried out.

    ``is_source_of`` compares the source's content with what a receipt says of it; None where receipts don't say it.
    """

    plan: dict[str, Any]
    digest: str
    watch: Watch
    carry_out: Callable[[], dict[str, Any]]
    is_source_of: Callable[[dict[str, Any]], bool | None]


class Proof:
    """The documents beside one target."""

    def __init__(self, args: argparse.Namespace, named: str) -> None:
        self.args, self.target, self.named = args, Path(args.target).absolute(), named
        self.asked = {"shard_size": args.shard_size, "digest": args.digest}
        self.record: Record | None = None
        with contextlib.suppress(OSError, ConvkitError):
            self.record = typed(Record, read_json(prove_path(self.target)))

    def refuse(self) -> None:
        """Check that nothing of others has the name of a document.

        Raises:
            UsageError: something has.
        """
        for path in (prove_path(self.target), *(stage_path(self.target, stage) for stage in STAGES)):
            if os.path.lexists(path) and (path.is_symlink() or not is_ours(path)):
                raise UsageError("isn't a document of convkit", path=path, remedy="move it, or name another target")

    def converted(self, work: Work) -> dict[str, Any] | None:
        """The receipt of the output that is there, if it is just what would be made now; None if none is there.

        Raises:
            UsageError: another output is there, and may not be replaced.
        """
        receipt = read_receipt(self.target) if self.target.exists() else None
        if receipt is None:
            return None
        other = self._other(work, receipt)
        if other and not self.args.overwrite:
            raise UsageError(f"exists, and {other}", path=self.target, remedy="name another target, or say --overwrite")
        return None if other else receipt

    def _other(self, work: Work, receipt: dict[str, Any]) -> str | None:
        """Why an output isn't the one that would be made now."""
        if receipt["plan_digest"] != work.digest:
            return "was made by another plan"
        record = self.record if self.record and self.record.receipt == receipt.get("digest") else None
        if self.asked != (record.asked if record else self.asked | {"shard_size": None}):
            return "was written with other options"
        if why := next(stale(self.target.parent, {"convert": receipt}, altered), None):
            return f"isn't as it was written: {why}"
        if record is not None and record.files == as_json(work.watch.identities()):
            return None
        same = work.is_source_of(receipt)
        return "its receipt doesn't say of which bytes it was made" if same is None else _ANOTHER[same]

    def keep(self, work: Work, receipt: dict[str, Any]) -> None:
        """Record what the output is made from; forget checks that aren't about it, and stages that failed."""
        files, seal = as_json(work.watch.identities()), str(receipt.get("digest"))
        for stage in ("plan", "convert"):
            stage_path(self.target, stage).unlink(missing_ok=True)
        before = self.record
        if before is None or (before.receipt, before.files) != (seal, files):
            checks = {} if before else self._by_hand(seal)
            before = Record(source=self.named, files=files, asked=self.asked, receipt=seal, checks=checks)
        self._write_record(structs.replace(before, source=self.named))

    def _by_hand(self, seal: str) -> dict[str, dict[str, str]]:
        """The checks that were made by hand and passed: with options that find less, they wouldn't have."""
        passed = {check: document for check in _DECIDE if (document := self._document(check)).get("state") == "yes"}
        return {check: self._usual(check) for check, document in passed.items() if document.get("receipt") == seal}

    def judged(self, check: str) -> dict[str, Any] | None:
        """The verdict of a check on this very output, made with the same options; None if there is none."""
        document = self._document(check)
        assert self.record is not None
        same = self.record.checks.get(check) == self._options(check)
        return document if same and document.get("receipt") == self.record.receipt else None

    def write(self, stage: str, document: dict[str, Any]) -> None:
        """Write the document of a stage; that of a check is recorded with its options."""
        text = json.dumps(as_json(document), indent=1, ensure_ascii=False) + "\n"
        write_whole(stage_path(self.target, stage), text.encode("utf-8", "backslashreplace"))
        if self.record is not None and stage in _DECIDE:
            checks = self.record.checks | {stage: self._options(stage)}
            self._write_record(structs.replace(self.record, checks=checks))

    def _document(self, stage: str) -> dict[str, Any]:
        with contextlib.suppress(OSError, ConvkitError):
            found = read_json(stage_path(self.target, stage))
            return found if isinstance(found, dict) else {}
        return {}

    def _options(self, check: str) -> dict[str, str]:
        return {name: _said(getattr(self.args, name)) for name in _DECIDE[check]}

    def _usual(self, check: str) -> dict[str, str]:
        return {name: _said(self.args.usual[name]) for name in _DECIDE[check]}

    def _write_record(self, record: Record) -> None:
        write_whole(prove_path(self.target), (json.dumps(record.to_json(), indent=1) + "\n").encode())
        self.record = record


def usual(parser: argparse.ArgumentParser) -> dict[str, Any]:
    """The options of the checks as they are where the user gives none."""
    return {name: parser.get_default(name) for names in _DECIDE.values() for name in names}


def _said(option: Any) -> str:
    """An option as the record has it: of a file also its state."""
    return f"{option} {state_of(option)}" if isinstance(option, Path) else str(option)
