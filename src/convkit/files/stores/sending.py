"""Send objects to a store: large ones in parts, in any order, several at a time.

An object appears whole or not at all: of one that is sent in parts nobody sees anything until it is completed
(:meth:`Sending.complete`). What was begun and never completed is discarded (:meth:`Sending.discard`).
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

#: bytes of a part, unless there would be too many
PART = 16 << 20
#: stores take no more parts of an object
_PARTS = 10_000
#: requests at a time
THREADS = 8

T = TypeVar("T")

#: what the store says of a part that it has, in JSON values
Said = dict[str, Any]


class Sending(ABC):
    """Sends to a store. Paths begin with the bucket's name. Requests that fail for now are tried again. Thread-safe.

    Every method raises :class:`~convkit.errors.ConvkitError` if the store refuses it.
    """

    @abstractmethod
    def put(self, path: str, data: bytes) -> str:
        """Make an object of a few bytes; returns the tag under which it is listed."""

    @abstractmethod
    def begin(self, path: str) -> str:
        """Begin an object that is sent in parts; returns a name of this upload, which outlives the process."""

    @abstractmethod
    def part(self, path: str, upload: str, number: int, data: bytes) -> Said:
        """Send a part, counted from 1; one of this number that was sent before is replaced.

        The store computes the checksum of the bytes that arrived, and takes only those that were sent.
        """

    @abstractmethod
    def parts(self, path: str, upload: str) -> dict[int, Said] | None:
        """The parts that the store has of an upload; None if it has forgotten it."""

    @abstractmethod
    def complete(self, path: str, upload: str, parts: Mapping[int, Said], size: int) -> str:
        """Make the object of its parts; returns the tag under which it is listed.

        If the answer is lost, the store is asked whether the object is there that this upload makes.
        """

    @abstractmethod
    def made(self, path: str, upload: str, size: int) -> str | None:
        """The tag of the object that an upload has made; None if it isn't there, or another one is."""

    @abstractmethod
    def abort(self, path: str, upload: str) -> None:
        """Discard an upload, if it is there."""

    @abstractmethod
    def discard(self, path: str, keep: Collection[str] = ()) -> None:
        """Discard the uploads of objects at a path and below it, except those with these names."""

    @abstractmethod
    def remove_one(self, path: str) -> None:
        """Remove an object, if it is there."""

    def remove(self, paths: Iterable[str]) -> None:
        """Remove objects, those that are there."""
        with ThreadPoolExecutor(THREADS, "remove") as pool:
            all_of(pool, self.remove_one, paths)

    def send(self, files: Mapping[str, Path]) -> dict[str, str]:
        """Make an object of each file; returns their tags, by path. Those that were made before an error stay."""
        with ThreadPoolExecutor(THREADS, "send") as pool:
            small = {path: file for path, file in files.items() if file.stat().st_size <= PART}
            tags = all_of(pool, lambda path: self.put(path, small[path].read_bytes()), small)
            for path in files:
                if path not in small:
                    tags[path] = self._in_parts(pool, path, files[path])
        return tags

    def _in_parts(self, pool: ThreadPoolExecutor, path: str, file: Path) -> str:
        size = file.stat().st_size
        step = step_of(size)
        upload = self.begin(path)

        def part(number: int) -> Said:
            with file.open("rb", buffering=0) as opened:
                opened.seek((number - 1) * step)
                return self.part(path, upload, number, opened.read(step))

        try:
            return self.complete(path, upload, all_of(pool, part, range(1, -(-size // step) + 1)), size)
        except BaseException:
            with contextlib.suppress(Exception):
                self.abort(path, upload)
            raise


def step_of(size: int) -> int:
    """Bytes of each part of an object of this size, except the last one."""
    return max(PART, -(-size // _PARTS))


def all_of(pool: ThreadPoolExecutor, work: Callable[[Any], T], items: Iterable[Any]) -> dict[Any, T]:
    """Do it for each; after the first error those that haven't begun are left out."""
    futures = {item: pool.submit(work, item) for item in items}
    try:
        return {item: future.result() for item, future in futures.items()}
    except BaseException:
        for future in futures.values():
            future.cancel()
        raise
