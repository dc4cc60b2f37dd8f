"""Conversions that were made by hand: the documents of their stages lie beside the receipt, not in a folder for each.

Each has the name that :func:`convkit.files.neighbours.stage_path` gives it. A document of an error stands for a stage
that failed, and hides what an earlier run of that stage has left.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from convkit.files.neighbours import STAGES, page_path, prove_path, stage_path
from convkit.files.receipt import receipts_beside, side_of

#: reads a document; {} for what is none
Read = Callable[[Path], dict[str, Any]]

_ENDS = (".convkit.json", ".state.json", ".migration.json", *(f".{stage}.json" for stage in STAGES))


def target_named(path: Path) -> Path | None:
    """The target of one conversion that ``path`` names, by itself or by its receipt; None for a folder of several."""
    if path.name.endswith(_ENDS[0]) and path.is_file():
        return path.with_name(path.name.removesuffix(_ENDS[0]))
    beside = receipts_beside(path) or any(stage_path(path, stage).is_file() for stage in STAGES)
    return path if beside or path.is_file() else None


def conversions_in(folder: Path, read: Read) -> dict[str, dict[str, dict[str, Any]]]:
    """The conversions whose documents lie in a folder, by the names of their targets: their documents by stage.

    A verdict that has the name of another target counts for the one whose receipt it is about.
    """
    files = (path.name for path in folder.iterdir() if path.is_file())
    names = {name.removesuffix(end) for name in files for end in _ENDS if name.endswith(end) and name != end}
    found = {name: documents_of(folder / name, read) for name in sorted(names)}
    seals = {name: documents.get("convert", {}).get("digest") for name, documents in found.items()}
    by_seal = {seal: name for name, seal in seals.items() if isinstance(seal, str)}
    for name, documents in [*found.items()]:
        for stage in [*documents] if "convert" not in documents else ():
            seal = documents[stage].get("receipt")
            if (owner := by_seal.get(seal) if isinstance(seal, str) else None) is not None:
                found[owner].setdefault(stage, documents.pop(stage))
        if not documents:
            del found[name]
    return found


def page_places(path: Path) -> tuple[Path, Path]:
    """Where the page and the summary go, of a results folder or of one target."""
    target = target_named(path)
    page = page_path(target) if target else path / "report.html"
    return page, summary_beside(page)


def summary_beside(page: Path) -> Path:
    """Where the summary of a page lies."""
    return page.with_name(page.name.removesuffix("report.html") + "summary.json")


def documents_of(target: Path, read: Read) -> dict[str, dict[str, Any]]:
    """The documents of the stages of a target, those of errors among them."""
    places = {stage: stage_path(target, stage) for stage in STAGES}
    found = {stage: read(path) for stage, path in places.items() if path.is_file()}
    receipts = receipts_beside(target)
    if receipts and not is_error(found.get("convert", {})):
        found["convert"] = read(receipts[0])
    return {stage: document for stage, document in found.items() if document}


def source_of(target: Path, receipt: dict[str, Any], read: Read) -> str:
    """What a target was made from, as the user named it if that is recorded; empty if nothing is known."""
    path = prove_path(target)
    record = read(path) if receipt and path.is_file() else {}
    known = record if record.get("receipt") == receipt.get("digest") else {}
    found = known.get("source") or side_of(receipt, "source").get("path")
    return found if isinstance(found, str) else ""


def is_error(document: dict[str, Any]) -> bool:
    """Whether a document says why a stage failed."""
    return str(document.get("schema")).startswith("convkit.error/")
