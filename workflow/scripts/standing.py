"""Whether what a stage left still is what its document says, found out while Snakemake plans.

Where convkit is installed beside Snakemake, its own answer counts: every file, and bytes where only times differ.
Elsewhere the files that the document lists decide, by their sizes and times of change.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

try:
    from convkit.cli.report import altered
    from convkit.fetch import seen_now
    from convkit.files.long_document import read_long
    from convkit.report.standing import stale
except ModuleNotFoundError:
    altered = seen_now = stale = None
    read_long = json.loads

#: the path, in the record of a fetch, of a source that is one file
_FILE = "."


def damage(document: Path, target: Path) -> str | None:
    """What is wrong with an output, by its receipt; None if nothing is. The time makes it another reason each time."""
    try:
        receipt = read_long(document.read_bytes())
        if stale is not None:
            wrong = next(stale(document.parent, {"convert": receipt}, altered, place=target), None)
        else:
            wrong = next(_changed_output(target, receipt), None)
    except (ValueError, AttributeError, KeyError, TypeError):
        wrong = f"{document.name} is damaged"
    return wrong and f"{wrong} ({document.stat().st_mtime_ns})"


def changed_source(record: Path, uri: str, path: str) -> str | None:
    """That a source isn't the one of its record any more; None if it is, or can't be found.

    Args:
        record: of its fetch.
        uri: the source, as its row names it.
        path: of the source on this machine; empty if it lies in a package.
    """
    try:
        recorded = json.loads(record.read_bytes())
        if seen_now is not None:
            now = seen_now(uri, record)
            changed = now != recorded.get("seen", now)
        else:
            now, changed = _changed_files(Path(path), recorded) if path and Path(path).exists() else ("", False)
    except (ValueError, AttributeError, KeyError, TypeError):
        return None
    return f"the source was changed ({now})" if changed else None


def _changed_output(target: Path, receipt: dict[str, Any]) -> Iterator[str]:
    if not target.exists():
        yield f"the target is gone: there is no {target}"
        return
    for entry in receipt.get("written", ()):
        file = target.parent / entry["name"]
        if not file.is_file():
            yield f"{entry['name']} is gone"
        elif (file.stat().st_size, file.stat().st_mtime_ns) != (entry["bytes"], entry.get("mtime_ns")):
            yield f"{entry['name']} was changed after it was written"


def _changed_files(path: Path, record: dict[str, Any]) -> tuple[str, bool]:
    """A digest of what the system says of the recorded files now, and whether that is something else."""
    folder = path if path.is_dir() else path.parent
    was = {entry["path"]: [entry["size"], entry["mtime_ns"]] for entry in record["files"]}
    now = {name: _size_and_time(path if name == _FILE else folder / name) for name in was}
    return hashlib.sha256(json.dumps(sorted(now.items())).encode()).hexdigest(), now != was


def _size_and_time(file: Path) -> list[int]:
    return [file.stat().st_size, file.stat().st_mtime_ns] if file.is_file() else []
