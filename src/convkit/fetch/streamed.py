"""The record of a source that is read where it lies in a store: ``<destination>.fetch.json`` without a copy beside it.

It names the URI and each object with its size and version, as the store says them; no byte is read, so that it has no
sha256. Who reads the source by its record (:func:`recorded_in_store`) learns whether they are still the same.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, Struct

from convkit.checkpoint.source_files import Ranged
from convkit.errors import ConvkitError, UsageError
from convkit.fetch.record import FILE, Bytes
from convkit.files.document import Document, read_json, typed, write_whole
from convkit.files.neighbours import fetch_record_path
from convkit.files.stores import place
from convkit.files.uri import without_secrets

SCHEMA = "convkit-stream/1"


class StreamedObject(Struct, frozen=True):
    """One object: its path below the checkpoint's folder, bytes, and what changes with its content (``ETag "…"``)."""

    path: str
    size: Bytes
    version: str


class StreamRecord(Document, frozen=True, kw_only=True):
    """What lies where in a store."""

    schema: Literal["convkit-stream/1"] = "convkit-stream/1"
    uri: str
    kind: Literal["file", "folder"]
    bytes: Bytes
    time: str
    files: Annotated[tuple[StreamedObject, ...], Meta(description="a file of its own has the path .")]


def record_stream(uri: str, destination: Path, *, overwrite: bool = False) -> StreamRecord:
    """Write the record of a source in a store to ``<destination>.fetch.json``.

    Raises:
        UsageError: the URI isn't in a store, or holds secrets, which no record has; or something is at the destination.
        ConvkitError: nothing is there, or the store doesn't answer.
    """
    source = place(uri)
    if not isinstance(source, Ranged):
        raise UsageError("isn't in a store", path=without_secrets(uri), remedy="name one: s3, gs, hf or http(s)")
    if without_secrets(uri) != uri:
        raise UsageError(
            "holds credentials or a query, which its record doesn't keep",
            path=without_secrets(uri),
            remedy="give credentials by the environment or a profile, or fetch it: fetch = local",
        )
    source.check_finished()
    path = fetch_record_path(destination.absolute())
    if path.exists() and not (overwrite or is_stream(path)):
        raise UsageError("exists", path=path, remedy="remove it, or overwrite")
    if not source.exists():
        raise ConvkitError("no such file or folder", path=uri, remedy="check the URI")
    objects = tuple(_objects(source))
    record = StreamRecord(
        uri=str(source),
        kind="folder" if source.is_dir() else "file",
        bytes=sum(each.size for each in objects),
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        files=objects,
    )
    write_whole(path, json.dumps(record.to_json(), indent=2).encode() + b"\n")
    return record


def is_stream(path: Path) -> bool:
    """Whether a file is the record of a source in a store."""
    try:
        found = read_json(path)
    except (OSError, ConvkitError):
        return False
    return isinstance(found, dict) and found.get("schema") == SCHEMA


def load(path: Path) -> StreamRecord:
    """Read a record.

    Raises:
        ConvkitError: it isn't one.
    """
    return typed(StreamRecord, read_json(path), path)


def recorded_in_store(path: Path) -> Path:
    """The source of a record, each object of which is the one that was recorded.

    Raises:
        ConvkitError: one isn't, or is new; it is named.
    """
    record = load(path)
    source = place(record.uri)
    now = {each.path: each for each in (_objects(source) if source.exists() else ())}
    for each in record.files:
        if now.pop(each.path, None) != each:
            raise _changed(source, each.path, path)
    for new in now:
        raise _changed(source, new, path)
    return source


def _changed(source: Path, name: str, record: Path) -> ConvkitError:
    return ConvkitError(
        "changed since it was recorded",
        path=source if name == FILE else source / name,
        remedy=f"restore it; or remove {record}, and run again",
    )


def _objects(source: Path) -> list[StreamedObject]:
    files = sorted(file for file in source.rglob("*") if file.is_file()) if source.is_dir() else [source]
    return [_object(file, FILE if file == source else str(file.relative_to(source))) for file in files]


def _object(file: Path, name: str) -> StreamedObject:
    assert isinstance(file, Ranged)
    return StreamedObject(name, file.stat().st_size, file.version)
