"""The record of a fetch: ``<destination>.fetch.json``.

It holds the URI without credentials, the time, where the checkpoint lies, and each file's size, sha256 and state. The
sha256 of a file source is the file's. That of a folder is the sha256 of the lines ``<sha256 of the file>  <path>\\n``,
paths with ``/`` and in the order of their UTF-8 bytes, which is what this prints in the folder::

    find . -type f -printf '%P\\0' | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, structs

from convkit.checkpoint.progress import Meter, Progress, unmeasured
from convkit.errors import ConvkitError
from convkit.files.document import Document, read_json, typed
from convkit.files.neighbours import fetch_record_path
from convkit.files.sync import sync
from convkit.files.unchanged import State, state_of

#: path of the only file of a source that is a file: ``destination / "."`` is the destination
FILE = "."
#: bytes of a file that are digested at a time
_BLOCK = 1 << 20
#: the end of the name of an index of shards, which lie beside it
_INDEX = ".index.json"

Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
Bytes = Annotated[int, Meta(ge=0)]


class FetchedFile(Struct, frozen=True):
    """One file: its path below the checkpoint's folder, bytes, sha256 (hexadecimal) and time of change (ns).

    Records of schema 1 lack the time at which the system says that it was touched, its inode and its device.
    """

    path: str
    size: Bytes
    sha256: Sha256
    mtime_ns: int
    ctime_ns: int | UnsetType = UNSET
    inode: int | UnsetType = UNSET
    device: int | UnsetType = UNSET

    def has(self, state: State) -> bool:
        """Whether the system says of the file what it said when it was fetched.

        Devices are numbered anew by each machine and mount, so they don't count; nobody can set ``ctime_ns``.
        """
        known = ((self.size, state.size), (self.mtime_ns, state.mtime_ns))
        later = ((self.ctime_ns, state.ctime_ns), (self.inode, state.inode))
        return all(was == now for was, now in known) and all(was in (UNSET, now) for was, now in later)


class FetchRecord(Document, frozen=True, kw_only=True):
    """What was fetched from where. ``fetched`` isn't in the file: it says whether this call brought the bytes."""

    schema: Literal["convkit-fetch/2"] = "convkit-fetch/2"
    uri: str
    kind: Literal["file", "folder"]
    path: Annotated[str | UnsetType, Meta(description="where the checkpoint lies; schema 1 doesn't say it")] = UNSET
    in_place: Annotated[bool, Meta(description="whether that is the source itself, and nothing was copied")] = False
    sha256: Sha256
    bytes: Bytes
    time: str
    seen: Annotated[str | UnsetType, Meta(description="what changes when a source on this machine does")] = UNSET
    files: tuple[FetchedFile, ...]
    fetched: bool | UnsetType = UNSET

    def place(self, beside: Path) -> Path:
        """Where the checkpoint lies; ``beside`` is the path of a copy, if the record doesn't lie."""
        return Path(self.path) if self.in_place and self.path is not UNSET else beside

    def file(self, place: Path, recorded: FetchedFile) -> Path:
        """Where a file of the checkpoint lies; an index stands for its folder."""
        return (place.parent if self.in_place and place.name.endswith(_INDEX) else place) / recorded.path


def describe(place: Path, progress: Progress | None = None, paths: Sequence[str] | None = None) -> list[FetchedFile]:
    """Path, size in bytes, sha256 and times of every file, read from disk; of these ``paths`` below it, if given.

    Raises:
        ConvkitError: a file changes meanwhile.
    """
    paths = paths_below(place) if paths is None else paths
    advance = Meter(sum((place / path).stat().st_size for path in paths), progress)
    return [_entry(place, path, advance) for path in paths]


def digest(files: Sequence[FetchedFile]) -> str:
    """The sha256 of a source (hexadecimal, see above)."""
    if [each.path for each in files] == [FILE]:
        return files[0].sha256
    lines = "".join(f"{each.sha256}  {each.path}\n" for each in files)
    return hashlib.sha256(lines.encode()).hexdigest()


def write(
    path: Path,
    destination: Path,
    uri: str,
    files: Sequence[FetchedFile],
    *,
    place: Path | None = None,
    seen: str | UnsetType = UNSET,
) -> FetchRecord:
    """Write the record of a destination to ``path``; returns it. ``place`` is that of one that isn't copied."""
    record = FetchRecord(
        uri=uri,
        kind="file" if files[0].path == FILE else "folder",
        path=str(place or destination),
        in_place=place is not None,
        sha256=digest(files),
        bytes=sum(each.size for each in files),
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        seen=seen,
        files=tuple(files),
    )
    return _written(path, record)


def is_record(path: Path) -> bool:
    """Whether a file is the record of a fetch."""
    try:
        typed(FetchRecord, read_json(path), path)
    except (OSError, ConvkitError):
        return False
    return True


def settle(destination: Path) -> FetchRecord:
    """Record what the system says of a file that has got its name since: it may count that as a change."""
    record = load(fetch_record_path(destination))
    file, state = record.files[0], state_of(destination)
    if record.kind == "folder" or state is None or file.has(state):
        return record
    now = structs.replace(file, ctime_ns=state.ctime_ns, inode=state.inode, device=state.device)
    return _written(fetch_record_path(destination), structs.replace(record, files=(now,)))


def _written(path: Path, record: FetchRecord) -> FetchRecord:
    new = path.with_name(f".{path.name}.new")
    new.write_text(json.dumps(record.to_json(), indent=2) + "\n")
    sync(new)
    new.replace(path)
    sync(path.parent)
    return record


def load(path: Path) -> FetchRecord:
    """Read a record, also one of schema 1, which lacks some fields.

    Raises:
        ConvkitError: it isn't one.
    """
    found = read_json(path)
    if isinstance(found, dict) and found.get("schema") == "convkit-fetch/1":
        found["schema"] = "convkit-fetch/2"
    return typed(FetchRecord, found, path)


def read(destination: Path) -> FetchRecord | None:
    """The record of a destination, if it is still true; None where there is none, or it isn't."""
    try:
        record = load(fetch_record_path(destination))
        return record if next(changes(record, record.place(destination)), None) is None else None
    except (OSError, ConvkitError):
        return None


def changes(record: FetchRecord, place: Path, states: dict[Path, State] | None = None) -> Iterator[tuple[Path, str]]:
    """Yield the files that aren't as recorded, and how they changed; fill ``states`` with those that are.

    A file of which the system says something else is digested: only the digest decides (a copy, a touch).
    """
    yield from ((path, "is new") for path in _new(record, place))
    for each in record.files:
        file = record.file(place, each)
        state = state_of(file)
        if state is None:
            yield file, "is gone"
        elif not (each.has(state) or (state.size == each.size and _entry(file, FILE).sha256 == each.sha256)):
            yield file, "changed"
        elif states is not None:
            states[file] = state


def foreign_files(destination: Path) -> list[Path]:
    """The files in a destination's folder that its record doesn't name; none where there is no record."""
    try:
        record = load(fetch_record_path(destination))
    except (OSError, ConvkitError):
        return []
    return [] if record.in_place else _new(record, destination)


def _new(record: FetchRecord, place: Path) -> list[Path]:
    """Files in a folder that a record doesn't name, except hidden ones: workflow engines leave their timestamps."""
    recorded = {each.path for each in record.files}
    found = paths_below(place) if place.is_dir() else []
    return [place / path for path in found if path not in recorded and not Path(path).name.startswith(".")]


def paths_below(place: Path) -> list[str]:
    """The paths of all files below a folder, in their order; :data:`FILE` for a file."""
    if not place.is_dir():
        return [FILE]
    found = [Path(folder, name) for folder, _, names in os.walk(place) for name in names]
    return sorted(path.relative_to(place).as_posix() for path in found if path.is_file())


def _entry(place: Path, path: str, advance: Callable[[int], object] = unmeasured) -> FetchedFile:
    file = place / path
    sha256 = hashlib.sha256()
    block = memoryview(bytearray(_BLOCK))
    with file.open("rb", buffering=0) as opened:
        before = state_of(file)
        while size := opened.readinto(block):
            sha256.update(block[:size])
            advance(size)
    state = state_of(file)
    if state is None or before is None or not state.is_that_of(before):
        raise ConvkitError("changed while it was digested", path=file, remedy="let nothing write to it, and try again")
    return FetchedFile(path, state.size, sha256.hexdigest(), state.mtime_ns, state.ctime_ns, state.inode, state.device)
