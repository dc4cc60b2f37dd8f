"""Stream a remote file to disk: failures are retried, and a file that hasn't changed is resumed.

A file is resumed from the bytes in staging only if the source confirms that their version is the current one
(see :class:`~convkit.fetch.staging.Version`); otherwise it starts again from its first byte.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from convkit.fetch.source import Call
from convkit.fetch.staging import Version
from convkit.files.stores.failures import PausedError, TransientError, retrying


@dataclass(frozen=True, slots=True)
class Opened:
    """A remote file being read."""

    version: Version
    #: offset of the first byte of ``chunks``: the requested one, or 0
    offset: int
    chunks: Iterator[bytes]


#: opens a file at an offset if it still has the given version, else at its start
OpenAt = Callable[[int, Version | None], AbstractContextManager[Opened]]


def download(open_at: OpenAt, path: str, uri: str, target: Path, call: Call) -> None:
    """Download the whole remote file to ``target``.

    Raises:
        PausedError: the source failed in ``call.retries`` further attempts without a byte of progress, or the
            disk is full.
    """
    retrying(lambda: _attempt(open_at, path, uri, target, call), uri, call.retries, lambda: _held(target))


def _attempt(open_at: OpenAt, path: str, uri: str, target: Path, call: Call) -> None:
    held = _held(target)
    with open_at(held, call.parts.version(path) if held else None) as opened:
        size = opened.version.size
        _check_room(target, size, opened.offset, uri)
        with target.open("ab") as out:
            out.truncate(opened.offset)
            call.parts.begin(path, opened.version)
            arrived = opened.offset
            call.progress(path, arrived, size)
            for chunk in opened.chunks:
                out.write(chunk)
                arrived += len(chunk)
                call.progress(path, arrived, size)
    if size is not None and arrived != size:
        raise TransientError(f"the connection ended after {arrived} of {size} bytes")


def _held(target: Path) -> int:
    return target.stat().st_size if target.exists() else 0


def _check_room(target: Path, size: int | None, offset: int, uri: str) -> None:
    free = shutil.disk_usage(target.parent).free
    if size is not None and size - offset > free:
        raise PausedError(
            f"needs {size - offset} bytes more and {free} are free in {target.parent}", path=uri, remedy="make room"
        )
