"""What there is of one target to sign or to compare: its files, its receipt, and the verdicts on it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from convkit.audit.files import digested
from convkit.checkpoint.progress import unmeasured
from convkit.errors import ConvkitError
from convkit.files.document import as_json, read_json
from convkit.files.neighbours import files_of_output, stage_path
from convkit.files.receipt import REPAIR, read_receipt, receipts_beside, side_of
from convkit.files.written import called_today

#: the checks that make up a proof; a repair needs the first alone: no model is run
CHECKS = ("roundtrip", "equivalence")
_REMEDY = "give an output of convkit"


def bundle_path(target: Path) -> Path:
    """Where the statements about ``target`` lie."""
    return target.with_name(f"{target.name}.intoto.jsonl")


def needed_checks(kind: str) -> tuple[str, ...]:
    """The checks that prove work of this kind: ``conversion``, ``repair`` or ``migration``."""
    return CHECKS[:1] if kind == REPAIR else CHECKS


@dataclass(frozen=True)
class Named:
    """A document: where it lies, its bytes' sha256, and what it says."""

    path: Path
    sha256: str
    document: dict[str, Any]


@dataclass(frozen=True)
class Source:
    """What the target was made from.

    Attributes:
        uri: as it was named, without credentials.
        files: the sha256 of each file, by its path in the source; empty where they aren't known.
        known: how they are known, in words.
    """

    uri: str
    files: Mapping[str, str] = field(default_factory=dict)
    known: str = ""

    @property
    def revision(self) -> str | None:
        """The revision of a hub, where the name has one."""
        organisation, at, rest = self.uri.removeprefix("hf://").partition("@")
        return rest.partition("/")[0] if self.uri.startswith("hf://") and at and organisation else None


@dataclass(frozen=True)
class Evidence:
    """A target with its receipt and its verdicts."""

    target: Path
    receipt: Named
    verdicts: dict[str, Named]

    @cached_property
    def files(self) -> dict[str, Path]:
        """The output set, by paths from the target's folder: target, config, companions, complement."""
        return output_set(self.target, self.receipt.document)

    def digests(self, advance: Callable[[int], object] = unmeasured) -> dict[str, str]:
        """The sha256 of each file of the output set.

        Raises:
            ConvkitError: one can't be digested, or there is none.
        """
        found = digested(self.files, advance)
        if not found:
            raise ConvkitError("has no file", path=self.target, remedy=_REMEDY)
        return found


def evidence_of(target: Path, folder: Path | None = None) -> Evidence:
    """What there is of a target.

    Args:
        target: the output.
        folder: where a campaign keeps the documents of its row; otherwise they lie beside the target.

    Raises:
        ConvkitError: there is no target, or no receipt beside it, or one that isn't as it was written.
    """
    if not target.exists():
        raise ConvkitError("no such file or folder", path=target, remedy="check the path")
    receipt = read_receipt(target)
    if receipt is None:
        raise ConvkitError("has no receipt beside it", path=target, remedy=_REMEDY)
    path = receipts_beside(target)[0]
    named = Named(path, hashlib.sha256(path.read_bytes()).hexdigest(), as_json(receipt))
    return Evidence(target, named, dict(verdicts_beside(target, folder, receipt.get("digest"))))


def verdicts_beside(target: Path, folder: Path | None, seal: object) -> Iterator[tuple[str, Named]]:
    """The verdicts on the output whose receipt bears this seal, by check."""
    for check in CHECKS:
        for path in document_places(target, folder, check):
            if not path.is_file():
                continue
            document = read_json(path)
            if isinstance(document, dict) and document.get("check") == check and document.get("receipt") == seal:
                yield check, Named(path, hashlib.sha256(path.read_bytes()).hexdigest(), as_json(document))
                break


def document_places(target: Path, folder: Path | None, check: str) -> tuple[Path, ...]:
    """Where the verdict of a check may lie."""
    return stage_path(target, check), (folder or target.parent) / f"{check}.json"


def output_set(target: Path, receipt: Mapping[str, Any]) -> dict[str, Path]:
    """The files of an output that are there: those of the target, and those that its receipt names beside it."""
    found = dict(files_of_output(target))
    made_as = Path(str(side_of(receipt, "target").get("path") or "")).name
    for entry in receipt.get("written") or ():
        name = called_today(str(entry["name"]), made_as, target.name)
        if name not in found and (target.parent / name).is_file():
            found[name] = target.parent / name
    return found
