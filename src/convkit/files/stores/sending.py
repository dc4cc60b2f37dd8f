"""Send objects to a store: large ones in parts, in any order, several at a time.

An object appears whole or not at all: one that is sent in parts comes when it is completed
(:meth:`Sending.complete`). What was begun and never completed is discarded (:meth:`Sending.discard`).
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from convkit.errors import ConvkitError
from convkit.files.stores.driver import Driver
from convkit.files.stores.failures import RETRIES, DeniedError, TransientError, retrying

#: bytes of a part, unless there would be too many
PART = 16 << 20
#: stores take no more parts of an object
_PARTS = 10_000
#: the word in an object's metadata by which it is known which upload made it
MADE_BY = "convkit-upload"
#: requests at a time
THREADS = 8

T = TypeVar("T")

#: what the store says of a part that it has, in JSON values
Said = dict[str, Any]


class Sending(ABC):
    """Sends to a store. Paths begin with the bucket's name. Requests that fail for now are tried again. Thread-safe.

    Every method raises :class:`~convkit.errors.ConvkitError` if the store refuses it.
    """

    #: what the store calls that by which it distinguishes versions of an object, or of a part
    version: ClassVar[str]

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._answered = False

    def tag(self, said: Mapping[str, Any]) -> str:
        """The tag (:attr:`~convkit.files.stores.store.Object.tag`) of an object, or a part, of which this was said."""
        return f"{self.version} {said[self.version]}"

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

    def gone(self, path: str) -> ConvkitError:
        """The error for an upload that the store no longer has."""
        return ConvkitError(
            "what was sent of it in parts is gone: something else writes the target, too",
            path=self._driver.shown(path),
            remedy="let one run write it, and start again",
        )

    def _ask(self, path: str, request: Callable[[Any], T]) -> T:
        """Make a request by fsspec's driver; credentials that expire are looked up again."""

        def attempt() -> T:
            try:
                with self._driver.one_line(path):
                    answer = request(self._driver.opened()[0])
            except DeniedError as error:
                if not self._answered:
                    raise
                self._driver.renew()
                raise TransientError("access denied now, and not before: the credentials may have expired") from error
            self._answered = True
            return answer

        return retrying(attempt, self._driver.shown(path), RETRIES)

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


def md5(data: bytes) -> str:
    """The MD5 of bytes, as stores take it."""
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


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
