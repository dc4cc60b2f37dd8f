"""What a target was made from, as far as it can be shown now: the sha256 of each file of its source."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from convkit.audit.evidence import Evidence, Source
from convkit.audit.files import digested, files_in, total_bytes
from convkit.checkpoint.digests import digest_leaf, digest_value
from convkit.checkpoint.progress import Meter
from convkit.cli.output import progress
from convkit.errors import ConvkitError
from convkit.fetch import record, streamed
from convkit.files.neighbours import fetch_record_path
from convkit.files.receipt import json_value
from convkit.files.uri import scheme_of, without_secrets
from convkit.formats import open_checkpoint

#: objects whose versions a statement repeats from the receipt
_SHOWN = 8


def source_of(evidence: Evidence, folder: Path | None = None) -> Source:
    """The source of a target: by the record of its fetch in the row's folder, else by its bytes, if they still are
    what the receipt says.
    """
    recorded = folder / "fetch.json" if folder else None
    if recorded is not None and streamed.is_stream(recorded):
        return _streamed(streamed.load(recorded).uri, evidence)
    if recorded is not None and recorded.is_file() and (found := _fetched(recorded)):
        return found
    receipt = evidence.receipt.document
    if scheme_of(str(receipt["source"]["path"])):
        return _streamed(str(receipt["source"]["path"]), evidence)
    path = Path(str(receipt["source"]["path"]))
    named = _named(path)
    if not path.exists():
        return Source(named, {}, "not known: the source isn't there any more")
    files = _files(path, receipt["source"])
    if not (leaves := receipt["source"].get("leaves")):
        return Source(named, _digested(path, files), "as the files were when this was signed")
    if not _has(path, str(receipt["source"].get("format")), leaves):
        return Source(named, {}, "not known: the source has changed since")
    return Source(named, _digested(path, files), "its leaves are those that were converted, compared when signed")


def _streamed(uri: str, evidence: Evidence) -> Source:
    """A source that was read in a store without a copy: its objects have versions, and no sha256."""
    files = evidence.receipt.document["source"].get("files") or ()
    said = [f"{file.get('name')} {file.get('version')}" for file in files]
    more = f" and {len(said) - _SHOWN} more, as the receipt says" if len(said) > _SHOWN else ""
    return Source(uri, {}, f"read in the store without a copy, at these versions: {'; '.join(said[:_SHOWN])}{more}")


def digests_now(path: Path, signed: Mapping[str, str]) -> dict[str, str]:
    """The sha256 of the files of a source as they are now: of a folder all, of a file those that are signed."""
    if not path.exists():
        raise ConvkitError("no such file or folder", path=path, remedy="check the path")
    if path.is_dir():
        return _digested(path, {name: file for name, file in files_in(path).items() if file.is_file()})
    beside = [path, *(path.parent / name for name in signed)]
    return _digested(path, {file.name: file for file in beside if file.is_file()})


def _fetched(path: Path) -> Source | None:
    """The source by the record of its fetch; None if that is the error of a fetch that failed."""
    try:
        found = record.load(path)
    except ConvkitError:
        return None
    name = Path(found.uri.partition("?")[0]).name or "source"
    files = {name if each.path == record.FILE else each.path: each.sha256 for each in found.files}
    return Source(found.uri, files, "digested when it was fetched")


def _named(path: Path) -> str:
    """The source as it was named when it was fetched, if there is a record of that; else its path."""
    try:
        return record.load(fetch_record_path(path)).uri
    except (OSError, ConvkitError):
        return without_secrets(str(path))


def _files(path: Path, recorded: Mapping[str, Any]) -> dict[str, Path]:
    """The files of a source: those in its folder, or those that the receipt names beside it."""
    if path.is_dir():
        return {name: file for name, file in files_in(path).items() if file.is_file()}
    beside = [path.parent / str(entry["name"]) for entry in recorded.get("files") or ()]
    return {file.name: file for file in (path, *beside) if file.is_file()}


def _digested(path: Path, files: Mapping[str, Path]) -> dict[str, str]:
    real = {name: file.resolve() for name, file in files.items()}  # the hub's cache is made of links
    with progress(f"digest {path}") as shown:
        return digested(real, Meter(total_bytes(real), shown))


def _has(path: Path, format: str, leaves: Mapping[str, Any]) -> bool:
    """Whether a checkpoint has just the leaves that a receipt records."""
    with open_checkpoint(path, format) as checkpoint, progress(f"digest {path}") as shown:
        if {*checkpoint.leaves} != {*leaves}:
            return False
        advance = Meter(sum(leaf.spec.nbytes for leaf in checkpoint.leaves.values() if leaf.spec), shown)
        for key, leaf in checkpoint.leaves.items():
            digest = str(leaves[key]["digest"])
            algorithm = digest.partition(":")[0]
            if leaf.spec is None:
                found = digest_value(algorithm, json_value(leaf.value))
            else:
                found = digest_leaf(checkpoint, key, algorithm, advance)
            if found != digest:
                return False
    return True
