"""The record of a fetch: ``<destination>.fetch.json``.

It holds the URI without credentials, the time, and each file's size and sha256. The sha256 of a file
source is the file's. That of a folder is the sha256 of the lines ``<sha256 of the file>  <path>\\n``,
paths with ``/`` and in the order of their UTF-8 bytes, which is what this prints in the folder::

    find . -type f -printf '%P\\0' | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from convkit.checkpoint.progress import Meter, Progress, unmeasured
from convkit.errors import ConvkitError
from convkit.files.document import Document, read_json, typed
from convkit.files.neighbours import fetch_record_path
from convkit.files.sync import sync

#: path of the only file of a source that is a file: ``destination / "."`` is the destination
FILE = "."
#: bytes of a file that are digested at a time
_BLOCK = 1 << 20

Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
Bytes = Annotated[int, Meta(ge=0)]


class FetchedFile(Struct, frozen=True):
    """One file: its path below the destination, bytes, sha256 (hexadecimal) and time of change (ns)."""

    path: str
    size: Bytes
    sha256: Sha256
    mtime_ns: int


class FetchRecord(Document, frozen=True, kw_only=True):
    """What was fetched from where. ``fetched`` isn't in the file: it says whether this call brought the bytes."""

    schema: Literal["convkit-fetch/1"] = "convkit-fetch/1"
    uri: str
    kind: Literal["file", "folder"]
    sha256: Sha256
    bytes: Bytes
    time: str
    files: tuple[FetchedFile, ...]
    fetched: bool | UnsetType = UNSET


def describe(payload: Path, progress: Progress | None = None) -> list[FetchedFile]:
    """Path, size in bytes, sha256 and time of change (ns) of every file, read from disk."""
    paths = _paths(payload)
    advance = Meter(sum((payload / path).stat().st_size for path in paths), progress)
    return [_entry(payload, path, advance) for path in paths]


def digest(files: Sequence[FetchedFile]) -> str:
    """The sha256 of a source (hexadecimal, see above)."""
    if [each.path for each in files] == [FILE]:
        return files[0].sha256
    lines = "".join(f"{each.sha256}  {each.path}\n" for each in files)
    return hashlib.sha256(lines.encode()).hexdigest()


def write(destination: Path, uri: str, files: Sequence[FetchedFile]) -> FetchRecord:
    """Leave the record beside the destination; returns it."""
    record = FetchRecord(
        uri=uri,
        kind="file" if files[0].path == FILE else "folder",
        sha256=digest(files),
        bytes=sum(each.size for each in files),
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        files=tuple(files),
    )
    path = fetch_record_path(destination)
    new = path.with_name(f".{path.name}.new")
    new.write_text(json.dumps(record.to_json(), indent=2) + "\n")
    sync(new)
    new.replace(path)
    sync(path.parent)
    return record


def read(destination: Path) -> FetchRecord | None:
    """The record of a destination, if it is still true; None where there is none, or it isn't."""
    path = fetch_record_path(destination)
    try:
        record = typed(FetchRecord, read_json(path), path)
        return record if _holds(destination, record.files) else None
    except (OSError, ConvkitError):
        return None


def _holds(destination: Path, files: Sequence[FetchedFile]) -> bool:
    # hidden files may come later: workflow engines leave their timestamps in a folder
    recorded = {each.path for each in files}
    if any(not Path(path).name.startswith(".") for path in recorded.symmetric_difference(_paths(destination))):
        return False
    return all(_unchanged(destination, each) for each in files)


def _unchanged(destination: Path, recorded: FetchedFile) -> bool:
    stat = (destination / recorded.path).stat()
    if stat.st_size != recorded.size:
        return False
    # a time may change without the bytes (a copy, a touch): then they are read
    return stat.st_mtime_ns == recorded.mtime_ns or _entry(destination, recorded.path).sha256 == recorded.sha256


def _paths(payload: Path) -> list[str]:
    if not payload.is_dir():
        return [FILE]
    return sorted(path.relative_to(payload).as_posix() for path in payload.rglob("*") if path.is_file())


def _entry(payload: Path, path: str, advance: Callable[[int], object] = unmeasured) -> FetchedFile:
    sha256 = hashlib.sha256()
    block = memoryview(bytearray(_BLOCK))
    with (payload / path).open("rb", buffering=0) as file:
        while size := file.readinto(block):
            sha256.update(block[:size])
            advance(size)
    stat = (payload / path).stat()
    return FetchedFile(path, stat.st_size, sha256.hexdigest(), stat.st_mtime_ns)
