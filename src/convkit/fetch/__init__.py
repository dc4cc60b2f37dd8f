"""Fetch a checkpoint from this machine, a package, a generator, the web, or a store.

========================================= ====================================================
``path``, ``file:///path``                this machine; cloned or hard-linked (:mod:`.local`)
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

from convkit.errors import ConvkitError, UsageError
from convkit.fetch import record
from convkit.fetch.generated import Generated
from convkit.fetch.http import Http
from convkit.fetch.local import from_file_uri, from_path
from convkit.fetch.package import from_package
from convkit.fetch.remote import Remote
from convkit.fetch.source import Arrivals, Call, Progress, Source
from convkit.fetch.staging import Parts
from convkit.fetch.transfer import PausedError
from convkit.files.neighbours import fetch_record_path, left_beside
from convkit.files.staging import remove
from convkit.files.uri import hide_secrets, scheme_of

__all__ = ["fetch"]

#: the constructor of each scheme's source; other schemes go to fsspec
_SOURCES: dict[str | None, Callable[[str], Source]] = {
    None: from_path,
    "file": from_file_uri,
    "package": from_package,
    "generated": Generated,
    "http": Http,
    "https": Http,
}


def fetch(
    uri: str,
    destination: str | os.PathLike[str],
    *,
    sha256: str | None = None,
    retries: int = 3,
    overwrite: bool = False,
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
            if held := _held(destination, source, expected):
                return held.to_json() | {"fetched": False}
            if os.path.lexists(destination) and not overwrite:
                raise _taken(destination, source)
            _fill(source, Call(place, retries, Arrivals(progress)))
            files = record.describe(place.payload, progress and (lambda done, total: progress(done, total, "sha256")))
            if expected not in (None, record.digest(files)):
                place.clear()
                raise ConvkitError(
                    f"sha256 is {record.digest(files)}, not {expected}",
                    path=source.uri,
                    remedy="nothing was kept; correct the sha256 if you trust the source",
                )
            # the record first: alone it is harmless, but a destination without its record can't be recognised
            written = record.write(destination, source.uri, files)
            stale = [path for path in left_beside(destination) if path != fetch_record_path(destination)]
            place.publish_payload()
            for path in stale:
                remove(path)
            return written.to_json() | {"fetched": True}
    except OSError as error:
        raise ConvkitError(error.strerror or str(error), path=error.filename or destination) from error


def _fill(source: Source, call: Call) -> None:
    """Fetch the payload; if that fails, keep the bytes that arrived only if a later call can continue them."""
    try:
        source.fill(call)
    except BaseException as error:
        hopeless = isinstance(error, ConvkitError) and not isinstance(error, PausedError)
        if hopeless or not source.resumable:
            call.parts.clear()
        raise


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


def _held(destination: Path, source: Source, expected: str | None) -> record.FetchRecord | None:
    """The record of the destination, if it already holds the requested source."""
    held = record.read(destination)
    if held is None or source.stale(held.files):
        return None
    asked = held.sha256 == expected if expected else held.uri == source.uri and not source.masked
    return held if asked else None


def _taken(destination: Path, source: Source) -> UsageError:
    held = record.read(destination)
    if held is None:
        problem = "exists and isn't what a fetch left there"
    elif held.uri != source.uri:
        problem = f"exists, fetched from {held.uri}"
    elif source.masked:
        problem = "exists, and a URI with a query can't be recognised without a sha256"
    elif source.stale(held.files):
        problem = "exists, and its source has changed since"
    else:
        problem = f"exists with the sha256 {held.sha256}"
    return UsageError(problem, path=destination, remedy="remove it, or overwrite")
