"""What lies beside a target by the name that convkit gives it, and is stale as soon as the target is replaced.

The document of a stage lies at ``<DST>.<stage>.json``: what the stage's command prints with ``--json``. That of a
conversion is its receipt; ``<DST>.convert.json`` is there only if it failed. ``<DST>.report.html`` and
``<DST>.summary.json`` are the page that is made of them, and ``<DST>.prove.json`` says what they were made from.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from convkit.checkpoint.digests import ALGORITHMS, digest_file
from convkit.errors import ConvkitError
from convkit.files.config_file import find_config, read_config
from convkit.files.receipt import CONVERSION, complement_path, read_receipt, receipts_beside
from convkit.files.written import called_today, files_below

#: the stages whose documents lie beside a target
STAGES = ("plan", "convert", "roundtrip", "equivalence")
#: what the names end with of what says something of a target, and nothing of one that replaces it
_SAID = (*(f".{stage}.json" for stage in STAGES[1:]), ".prove.json", ".summary.json", ".report.html")
#: what such a file begins with, so that no file of others is taken for one
_OURS = re.compile(rb'\s*(?:\{\s*"schema":\s*"convkit\.|<!doctype html>.*<title>convkit:)', re.DOTALL)
_ERROR = re.compile(rb'\s*\{\s*"schema":\s*"convkit\.error/')
_HEAD = 1024


def companions_path(target: Path) -> Path:
    """Where the companions lie of a checkpoint that is one file, or a folder that holds nothing of others."""
    return target.with_name(target.name + ".companions")


def fetch_record_path(target: Path) -> Path:
    """Where the record of a fetch of ``target`` lies."""
    return target.with_name(target.name + ".fetch.json")


def stage_path(target: Path, stage: str) -> Path:
    """Where the document of a stage lies that made or judged ``target``."""
    return target.with_name(f"{target.name}.{stage}.json")


def page_path(target: Path) -> Path:
    """Where the page of the one conversion to ``target`` lies."""
    return target.with_name(target.name + ".report.html")


def prove_path(target: Path) -> Path:
    """Where the record lies of what was proved of ``target``, from what."""
    return target.with_name(target.name + ".prove.json")


def said_of(target: Path) -> list[Path]:
    """What is there of the documents and the page that say something of ``target``; files of others are none."""
    places = (target.with_name(target.name + end) for end in _SAID)
    found = [path for path in places if path.is_file() and not path.is_symlink() and is_ours(path)]
    plan = stage_path(target, "plan")  # one may be there before its target is; an error is of an earlier try
    return [*found, plan] if plan.is_file() and _begins(plan, _ERROR) else found


def is_ours(path: Path) -> bool:
    """Whether a file begins as the documents and the pages of convkit do."""
    return _begins(path, _OURS)


def _begins(path: Path, like: re.Pattern[bytes]) -> bool:
    try:
        with path.open("rb") as file:
            return like.match(file.read(_HEAD)) is not None
    except OSError:
        return False


def files_of_output(target: Path) -> Iterator[tuple[str, Path]]:
    """The files of a target, of its companions and its complement, by their names from the target's folder."""
    for top in (target, companions_path(target), complement_path(target)):
        yield from files_below(target.parent, top.name)


def left_beside(target: Path, source: Path | None = None) -> list[Path]:
    """What earlier work left beside ``target``: receipts, a complement, the record of a fetch, companions, a config.

    What was said of it (:func:`said_of`) belongs to it too. Files that the receipt doesn't name count only if their
    name says what they are; a config that somebody has edited doesn't, nor one that ``source``, from which the target
    is to be made, uses.
    """
    left = [*receipts_beside(target), complement_path(target), fetch_record_path(target)]
    receipt = _receipt(target)
    used = find_config(source) if source else None
    if receipt:
        own = _unchanged(target, receipt) if "written" in receipt else _of_earlier_releases(target, receipt)
        left += [path for path in own if path != used and path not in left]
    left += said_of(target)
    return [path for path in left if path.exists() or path.is_symlink()]


def foreign_files(target: Path) -> list[Path]:
    """Files in a target's folder that its receipt doesn't name, except hidden ones; none where it names no files."""
    receipt = _receipt(target)
    if receipt is None or "written" not in receipt or not target.is_dir():
        return []
    known = {path for path, _ in _written(target, receipt)}
    if not known:
        return []
    found = (path for path in target.rglob("*") if not path.is_dir())
    return sorted(path for path in found if path not in known and not path.name.startswith("."))


def _receipt(target: Path) -> dict[str, Any] | None:
    try:
        return read_receipt(target)
    except ConvkitError:  # what can't be read isn't known to be convkit's
        return None


def _written(target: Path, receipt: dict[str, Any]) -> list[tuple[Path, dict[str, Any]]]:
    """The files that a receipt names, where they are now; none if it is malformed."""
    found = []
    try:
        for entry in receipt["written"]:
            name = called_today(entry["name"], Path(receipt["target"]["path"]).name, target.name)
            found.append((target.parent / name, entry))
    except (KeyError, TypeError, AttributeError):
        return []
    return found


def _unchanged(target: Path, receipt: dict[str, Any]) -> Iterator[Path]:
    """What a receipt names beside its target: files, and folders of which nothing was changed."""
    tops: dict[Path, list[tuple[Path, dict[str, Any]]]] = {}
    for path, entry in _written(target, receipt):
        tops.setdefault(target.parent / path.relative_to(target.parent).parts[0], []).append((path, entry))
    yield from (top for top, files in tops.items() if top != target and all(_as_written(*one) for one in files))


def _as_written(path: Path, entry: dict[str, Any]) -> bool:
    if not path.is_file() or path.is_symlink() or path.stat().st_size != entry.get("bytes"):
        return False
    digest = str(entry.get("digest"))
    algorithm = digest.partition(":")[0]
    return "leaf_bytes" in entry or (algorithm in ALGORITHMS and digest_file(algorithm, path) == digest)


def _of_earlier_releases(target: Path, receipt: dict[str, Any]) -> list[Path]:
    """What belongs to a target whose receipt doesn't name its files: companions, and a conversion's unedited config."""
    try:
        config = receipt["plan"]["target"]["config"] if receipt["kind"] == CONVERSION else None
        configs = [target.with_suffix(suffix) for suffix in (".yaml", ".json")]
        same = [path for path in configs if config and path.is_file() and read_config(path) == config]
    except (ConvkitError, KeyError, TypeError):
        same = []
    return [companions_path(target), *same]
