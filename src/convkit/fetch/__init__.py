"""Fetch a checkpoint from this machine, a package, a generator, the web, or a store.

========================================= ====================================================
``path``, ``file:///path``                this machine; cloned or copied (:mod:`.local`)
``package://module/path``                 in an installed Python package (:mod:`.package`)
``generated://family?option=value&...``   made from a seed (:mod:`convkit.generate`)
``http://...``, ``https://...``           one file, or an index and its shards (:mod:`.http`)
``s3://...``, ``gs://...``, ``hf://...``  files and folders, through fsspec (:mod:`.remote`)
========================================= ====================================================

Files are collected in ``.<name>.convkit-part/`` beside the destination, checked, synced, and
renamed, so the destination is never incomplete. Credentials in a URI are used, but never printed or recorded.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from msgspec import UNSET, UnsetType, structs

from convkit.errors import ConvkitError, UsageError
from convkit.fetch import record
from convkit.fetch.generated import Generated
from convkit.fetch.http import Http
from convkit.fetch.in_place import is_large, recorded, seen
from convkit.fetch.local import Local, from_file_uri, from_path
from convkit.fetch.package import from_package
from convkit.fetch.remote import Remote
from convkit.fetch.source import Arrivals, Call, Progress, Source
from convkit.fetch.staging import Parts
from convkit.files.neighbours import fetch_record_path, foreign_files, left_beside
from convkit.files.receipt import receipts_beside
from convkit.files.staging import finally_called
from convkit.files.stores.failures import MissingError, PausedError
from convkit.files.taken import refuse_foreign, refuse_taken
from convkit.files.uri import hide_secrets, scheme_of

__all__ = ["fetch", "recorded", "schemes", "seen_now"]

#: the constructor of each scheme's source; other schemes go to fsspec
_SOURCES: dict[str | None, Callable[[str], Source]] = {
    None: from_path,
    "file": from_file_uri,
    "package": from_package,
    "generated": Generated,
    "http": Http,
    "https": Http,
}


def schemes() -> list[str]:
    """The schemes of URIs that convkit fetches itself; others go to fsspec."""
    return [scheme for scheme in _SOURCES if scheme]


def fetch(
    uri: str,
    destination: str | os.PathLike[str],
    *,
    sha256: str | None = None,
    retries: int = 3,
    overwrite: bool = False,
    link: bool = False,
    in_place: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Fetch the file or folder at ``uri`` to ``destination``, and write ``<destination>.fetch.json`` beside it.

    A destination that an earlier fetch made, and that still matches its record, is not fetched
    again if it has the given ``sha256`` or came from the same URI.

    Args:
        uri: see the table above.
        destination: the path to create; it is free, or an earlier fetch of the same source made it.
        sha256: the digest that the source must have, in hexadecimal (for folders see :mod:`convkit.fetch.record`).
        retries: further attempts after a connection or a server fails; the count restarts when bytes arrive.
        overwrite: replace what is at the destination, and remove what other work left beside it.
        link: hard-link files of this machine where the file system can't clone: they stay the source's own files.
        in_place: leave a source on this machine where it lies, and only record it there, if its files have more than
            :data:`~convkit.fetch.in_place.COPIED_UP_TO` bytes; the record's ``path`` says where the checkpoint lies.
        progress: called with the bytes that have arrived, their total (None: not known) and the path of a file;
            then with the bytes that are digested, their total and ``sha256``.

    Returns:
        The record, and ``fetched``: False when the destination was there already.

    Raises:
        UsageError: the URI or the sha256 is malformed, or something else is at the destination.
        ConvkitError: the source can't be fetched, or has another sha256; the destination is unchanged.
    """
    expected = _hexadecimal(sha256)
    destination = Path(destination).absolute()
    if destination.name in ("", ".."):
        raise UsageError("can't be a destination", path=destination, remedy="name a file or folder to make")
    source = _source(uri)
    try:
        with Parts(destination, source.uri) as place:
            call = Call(place, retries, Arrivals(progress), link)
            lies = source if in_place and isinstance(source, Local) and is_large(source, call) else None
            if held := _held(destination, source, expected, link=link, in_place=lies is not None):
                return held.to_json() | {"fetched": False}
            if os.path.lexists(destination) and not overwrite:
                raise _taken(destination, source)
            _refuse(destination, overwrite)
            shows = seen(source) if isinstance(source, Local) else UNSET
            if lies is None:
                _fill(source, call)
            files = _described(lies, place, expected, progress)
            return _published(source.uri, place, lies, files, shows).to_json() | {"fetched": True}
    except OSError as error:
        named = finally_called(str(error.filename or destination), destination)
        raise ConvkitError(error.strerror or str(error), path=named) from error


def _refuse(destination: Path, overwrite: bool) -> None:
    """Check what lies at the destination, and beside it under names that will be written, or removed as stale.

    Raises:
        UsageError: a link, a mount point, a folder that convkit didn't write, or a file that may not be replaced.
    """
    path = fetch_record_path(destination)
    empty = destination.is_dir() and not any(destination.iterdir())
    own = record.is_record(path) or bool(receipts_beside(destination))
    refuse_taken(destination, overwrite=overwrite, folder=own or empty)
    refuse_foreign(destination, record.foreign_files(destination) or foreign_files(destination))
    refuse_taken(path, overwrite=overwrite or record.is_record(path))
    for stale in left_beside(destination):
        if stale != path:
            refuse_taken(stale, overwrite=overwrite, folder=True)


def seen_now(uri: str, before: Path) -> str:
    """What changes when a source on this machine does; empty for others. No file is read.

    A source that isn't there, or can't be fetched, is taken for the one that the record at ``before`` describes.
    """
    if scheme_of(uri) not in (None, "file", "package"):
        return ""
    try:
        source = _source(uri)
        assert isinstance(source, Local)
        return seen(source)
    except (ConvkitError, OSError):
        try:
            return record.load(before).seen or ""
        except (ConvkitError, OSError):
            return ""


def _fill(source: Source, call: Call) -> None:
    """Fetch the payload; if that fails, keep the bytes that arrived only if a later call can continue them."""
    try:
        source.fill(call)
    except BaseException as error:
        hopeless = isinstance(error, ConvkitError) and not isinstance(error, PausedError)
        if hopeless or not source.resumable:
            call.parts.clear()
        raise


def _described(
    lies: Local | None, place: Parts, expected: str | None, progress: Progress | None
) -> list[record.FetchedFile]:
    """Digest the files of the payload, or of a source where it ``lies``.

    Raises:
        ConvkitError: the digest isn't the expected one.
    """

    def digested(done: int, total: int | None) -> None:
        if progress is not None:
            progress(done, total, "sha256")

    if lies is None:
        files = record.describe(place.payload, digested)
    else:
        files = record.describe(lies.folder, digested, list(lies.files()))
    if expected in (None, record.digest(files)):
        return files
    place.clear()
    raise ConvkitError(
        f"sha256 is {record.digest(files)}, not {expected}",
        path=lies.uri if lies else place.uri,
        remedy="nothing was kept; correct the sha256 if you trust the source",
    )


def _published(
    uri: str, place: Parts, lies: Local | None, files: list[record.FetchedFile], shows: str | UnsetType
) -> record.FetchRecord:
    """Write the record, and put it and the payload in their places, all or none; what isn't true any more goes."""
    destination, path = place.target, fetch_record_path(place.target)
    stale = [other for other in left_beside(destination) if other != path]
    if lies is not None and path.exists():
        stale.append(destination)  # what an earlier fetch brought
    staged = place.folder / path.name
    written = record.write(staged, destination, uri, files, place=lies.path if lies else None, seen=shows)
    place.publish_payload(staged, stale, with_payload=lies is None)
    return written if lies else record.settle(destination)


def _hexadecimal(sha256: str | None) -> str | None:
    if sha256 is None:
        return None
    if not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise UsageError(f"{sha256!r} isn't a sha256", remedy="give 64 hexadecimal digits")
    return sha256.lower()


def _source(uri: str) -> Source:
    scheme = scheme_of(uri)
    if scheme is None and "://" in uri:  # it would be taken for a path, and printed as one
        raise UsageError("isn't a URI", path=hide_secrets(uri), remedy="it begins with a scheme such as s3://")
    try:
        return _SOURCES.get(scheme, Remote)(uri)
    except ValueError as error:  # urllib rejects a bracket or a port; its message may contain a password
        raise UsageError("isn't a URI", path=f"{scheme}://...", remedy="check its host and port") from error


def _held(
    destination: Path, source: Source, expected: str | None, *, link: bool, in_place: bool
) -> record.FetchRecord | None:
    """The record of the destination, if it already holds the requested source, as it is to be held."""
    held = record.read(destination)
    if held is None or _changed(source, held) or held.in_place != in_place:
        return None
    if not link and not in_place and _is_source(destination, source, held):
        return None
    asked = held.sha256 == expected if expected else held.uri == source.uri and not source.masked
    return structs.replace(held, path=str(held.place(destination))) if asked else None


def _changed(source: Source, held: record.FetchRecord) -> bool:
    """Whether a source on this machine isn't the one that was fetched; one that isn't there any more is."""
    if source.stale(held.files):
        return True
    try:
        return isinstance(source, Local) and held.seen not in (UNSET, seen(source))
    except MissingError:
        return False


def _is_source(destination: Path, source: Source, held: record.FetchRecord) -> bool:
    return isinstance(source, Local) and source.is_at(destination, held.files)


def _taken(destination: Path, source: Source) -> UsageError:
    held = record.read(destination)
    if held is None:
        problem = "exists and isn't what a fetch left there"
    elif held.uri != source.uri:
        problem = f"exists, fetched from {held.uri}"
    elif source.masked:
        problem = "exists, and a URI with a query can't be recognised without a sha256"
    elif _changed(source, held):
        problem = "exists, and its source has changed since"
    elif _is_source(destination, source, held):
        problem = "exists, as a hard link to its source"
    else:
        problem = f"exists with the sha256 {held.sha256}"
    return UsageError(problem, path=destination, remedy="remove it, or overwrite")
