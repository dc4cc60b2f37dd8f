"""The record of a fetch: ``<destination>.fetch.json``.

It holds the URI without credentials, the time, and each file's size and sha256. The sha256 of a file
source is the file's. That of a folder is the sha256 of the lines ``<sha256 of the file>  <path>\\n``,
paths with ``/`` and in the order of their UTF-8 bytes, which is what this prints in the folder::

    find . -type f -printf '%P\\0' | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum
"""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from convkit.files.sync import sync

SCHEMA = "convkit-fetch/1"

#: path of the only file of a source that is a file: ``destination / "."`` is the destination
FILE = "."


def describe(payload: Path) -> list[dict[str, Any]]:
    """Path, size in bytes, sha256 and time of change (ns) of every file, read from disk."""
    return [_entry(payload, path) for path in _paths(payload)]


def digest(files: list[dict[str, Any]]) -> str:
    """The sha256 of a source (hexadecimal, see above)."""
    if [each["path"] for each in files] == [FILE]:
        return files[0]["sha256"]
    lines = "".join(f"{each['sha256']}  {each['path']}\n" for each in files)
    return hashlib.sha256(lines.encode()).hexdigest()


def write(destination: Path, uri: str, files: list[dict[str, Any]]) -> dict[str, Any]:
    """Leave the record beside the destination; returns it."""
    record = {
        "schema": SCHEMA,
        "uri": uri,
        "kind": "file" if files[0]["path"] == FILE else "folder",
        "sha256": digest(files),
        "bytes": sum(each["size"] for each in files),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "files": files,
    }
    path = _path(destination)
    new = path.with_name(f".{path.name}.new")
    new.write_text(json.dumps(record, indent=2) + "\n")
    sync(new)
    new.replace(path)
    sync(path.parent)
    return record


def read(destination: Path) -> dict[str, Any] | None:
    """The record of a destination, if it is still true; None where there is none, or it isn't."""
    try:
        record = json.loads(_path(destination).read_bytes())
        if record["schema"] == SCHEMA and _holds(destination, record["files"]):
            return record
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def _path(destination: Path) -> Path:
    return destination.with_name(f"{destination.name}.fetch.json")


def _holds(destination: Path, files: list[dict[str, Any]]) -> bool:
    # hidden files may come later: workflow engines leave their timestamps in a folder
    recorded = {each["path"] for each in files}
    if any(not Path(path).name.startswith(".") for path in recorded.symmetric_difference(_paths(destination))):
        return False
    return all(_unchanged(destination, each) for each in files)


def _unchanged(destination: Path, recorded: dict[str, Any]) -> bool:
    stat = (destination / recorded["path"]).stat()
    if stat.st_size != recorded["size"]:
        return False
    # a time may change without the bytes (a copy, a touch): then they are read
    return (
        stat.st_mtime_ns == recorded["mtime_ns"]
        or _entry(destination, recorded["path"])["sha256"] == recorded["sha256"]
    )


def _paths(payload: Path) -> list[str]:
    if not payload.is_dir():
        return [FILE]
    return sorted(path.relative_to(payload).as_posix() for path in payload.rglob("*") if path.is_file())


def _entry(payload: Path, path: str) -> dict[str, Any]:
    with (payload / path).open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    stat = (payload / path).stat()
    return {"path": path, "size": stat.st_size, "sha256": sha256, "mtime_ns": stat.st_mtime_ns}
