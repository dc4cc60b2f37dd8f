"""Whether an output still is what its receipt says, and whether the verdicts are about that output.

An output whose files have the sizes and the times of change that its receipt records is taken as unchanged. Where only
times differ, as after a copy of the results, its bytes decide. Documents of earlier releases, which record less, are
checked as far as they go: whether the target is there, and the sizes of its files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from convkit.files.neighbours import files_of_output
from convkit.files.receipt import receipt_path, side_of
from convkit.files.seal import seal_on, unbroken
from convkit.files.written import called_today
from convkit.report.checks import CHECKS

Documents = Mapping[str, Mapping[str, Any]]
#: compares the bytes of the output at a path with its receipt, and gives what is wrong
Judge = Callable[[Path], Iterable[str]]

#: most files that one reason names
_NAMED = 3
_RECEIPT = ".convkit.json"


def stale(
    directory: Path,
    documents: Documents,
    judge: Judge | None = None,
    *,
    always: bool = False,
    place: Path | None = None,
) -> Iterator[str]:
    """Why the documents of a row don't say anything about its output as it is now; nothing if they do.

    Args:
        directory: of the row.
        documents: its receipt and its verdicts, by stage.
        judge: compares bytes where times alone differ; without it, such a file counts as changed.
        always: compare bytes in any case.
        place: where the target was to be written, if not in the directory.
    """
    receipt = documents.get("convert", {})
    made_as = _made_as(receipt)
    if not made_as:
        return
    target = find_target(directory, documents, place)
    if target is None:
        yield f"the target is gone: there is no {place or directory / made_as}"
        return
    changed = [*_of_receipt(target, receipt), *_of_files(target, made_as, receipt)]
    times = [] if changed else [*_touched(target, made_as, receipt)]
    if judge is not None and (always or times):
        wrong = [*judge(target)]
        changed += [*_by_bytes(times, wrong)] if times else [line for line in wrong if line not in changed]
    elif times:
        changed += [*_by_bytes(times, [""])]
    yield from changed
    for check in CHECKS:
        if check in documents and documents[check].get("receipt") != receipt.get("digest"):
            yield f"{check} judged another output than this one: make the check again"


def find_target(directory: Path, documents: Documents, place: Path | None = None) -> Path | None:
    """Where the target lies: in its place, in the folder of its documents, perhaps renamed, or where it was judged.

    A checkpoint of several files may be any of them in verdicts, so that only its own name counts.
    """
    receipt = documents.get("convert", {})
    made_as, seal = _made_as(receipt), receipt.get("digest")
    if not made_as:
        return None
    own = [path for path in directory.glob(f"*{_RECEIPT}") if seal and seal_on(path) == seal]
    renamed = [path.with_name(path.name.removesuffix(_RECEIPT)) for path in own]
    judged = [Path(str(documents[check].get("target", ""))) for check in CHECKS if check in documents]
    places = [
        *([place] if place else []),
        directory / made_as,
        *renamed,
        *(path for path in judged if path.name == made_as),
    ]
    return next((path for path in places if path.exists()), None)


def _made_as(receipt: Mapping[str, Any]) -> str:
    """The name of the target when it was written; empty if no receipt says it."""
    return Path(str(side_of(receipt, "target").get("path") or "")).name


def _of_receipt(target: Path, receipt: Mapping[str, Any]) -> Iterator[str]:
    """Whether the receipt beside the target is the one that is reported on, byte by byte."""
    seal, beside = receipt.get("digest"), receipt_path(target)
    if not seal:
        return
    try:
        same = unbroken(beside.read_bytes(), {"digest": seal})
    except OSError:
        yield f"{beside.name}, its receipt, is gone"
        return
    if not same and seal_on(beside) in (None, seal):
        yield f"{beside.name}, its receipt, was changed after it was written"
    elif not same:
        yield f"{target.name} was written again since: {beside.name} is another receipt"


def _of_files(target: Path, made_as: str, receipt: Mapping[str, Any]) -> Iterator[str]:
    """The files that are gone, of another size, or more than were written."""
    entries = _entries(target, made_as, receipt)
    for name, entry in entries.items():
        file = target.parent / name
        if not file.is_file():
            yield f"{name} is gone"
        elif file.stat().st_size != entry["bytes"]:
            yield f"{name} was changed after it was written"
    if "written" in receipt:
        for name, _ in files_of_output(target):
            if name not in entries:
                yield f"{name} was added after {target.name} was written"


def _touched(target: Path, made_as: str, receipt: Mapping[str, Any]) -> Iterator[str]:
    """The files whose time of change isn't that of the receipt, if it gives any."""
    for name, entry in _entries(target, made_as, receipt).items():
        if "mtime_ns" in entry and (target.parent / name).stat().st_mtime_ns != entry["mtime_ns"]:
            yield name


def _entries(target: Path, made_as: str, receipt: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """What the receipt says of files, by their names from the target's folder."""
    if "written" in receipt:
        return {called_today(entry["name"], made_as, target.name): entry for entry in receipt["written"]}
    files = receipt["target"].get("files") or []
    if max(Counter(entry["name"] for entry in files).values(), default=0) > 1:  # bare names of chunks, as at first
        return {}
    return {f"{target.name}/{entry['name']}" if target.is_dir() else target.name: entry for entry in files}


def _by_bytes(times: list[str], wrong: list[str]) -> Iterator[str]:
    """One reason for files with other times, if bytes are ``wrong``; the files that are named there, if any is."""
    if wrong:
        named = [name for name in times if any(name.rpartition("/")[2] in line for line in wrong)] or times
        more = f" and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
        verb = "were changed after they were written" if len(named) > 1 else "was changed after it was written"
        yield f"{', '.join(named[:_NAMED])}{more} {verb}" + (f" ({wrong[0]})" if wrong[0] else "")
