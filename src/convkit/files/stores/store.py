"""What a store is: objects with a size and a tag, in folders, read by ranges.

An object counts as it was when it was first looked at: whoever reads a range of it later gets bytes of that version,
or an error that names it. :meth:`Store.forget` makes the next look a fresh one, which is how
:class:`convkit.files.unchanged.Watch` sees what has changed at the end.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from convkit.errors import ConvkitError, UsageError
from convkit.files.stores.failures import RETRIES, DeniedError, MissingError, TransientError, retrying

if TYPE_CHECKING:
    from convkit.files.stores.sending import Sending


@dataclass(frozen=True, slots=True)
class Object:
    """An object: its bytes, and what changes whenever its content does, such as ``ETag "…"`` or ``generation 17``.

    ``changed`` is the second (since 1970) of its last change, or 0.
    """

    size: int
    tag: str
    changed: int = 0


class Store(ABC):
    """What a URI leads into. ``path`` is always one within the store, without a slash at either end. Thread-safe."""

    def __init__(self) -> None:
        self._pinned: dict[str, Object] = {}
        self._answered = False

    @abstractmethod
    def shown(self, path: str) -> str:
        """The URI of a path, without secrets."""

    @abstractmethod
    def look(self, path: str) -> Object | None:
        """The object at a path; None for a folder.

        Raises:
            MissingError: nothing is there.
            ConvkitError: the store doesn't say it.
        """

    @abstractmethod
    def names(self, path: str) -> list[str]:
        """The names in a folder.

        Raises:
            ConvkitError: the store doesn't say them.
        """

    @abstractmethod
    def forget(self) -> None:
        """Forget what was looked up, so that it is looked up anew."""

    @abstractmethod
    def request(self, path: str, start: int, stop: int, expected: Object) -> bytes:
        """The bytes ``[start, stop)`` of an object, in one request; fewer if the connection ended.

        Raises:
            TransientError: try again.
            ConvkitError: they can't be read.
        """

    def renew(self) -> None:  # noqa: B027 - a store may have none
        """Look for credentials again."""

    def kvstore(self, path: str) -> Mapping[str, Any]:
        """tensorstore's spec of a folder.

        Raises:
            UsageError: tensorstore doesn't read from such a store.
        """
        raise UsageError(
            "holds arrays in folders, which are read without a copy only from s3:// and gs://",
            path=self.shown(path),
            remedy="fetch it first: convkit fetch, or fetch = local in the table",
        )

    def sending(self) -> Sending:
        """What sends objects there.

        Raises:
            UsageError: nothing is written to such a store.
        """
        raise UsageError("is only read", path=self.shown(""), remedy="write to a folder, and copy it there")

    def check_finished(self, path: str) -> None:  # noqa: B027 - where nothing is written, all is finished
        """Check that no run of convkit is writing what lies at a path, and none was killed while it did.

        Raises:
            ConvkitError: one is, or was.
        """

    def pinned(self, path: str) -> Object:
        """The object at a path as it was when it was first looked at.

        Raises:
            MissingError: there is none.
        """
        if path not in self._pinned:
            found = self.look(path)
            if found is None:
                raise MissingError("is a folder", path=self.shown(path))
            self._pinned.setdefault(path, found)
        return self._pinned[path]

    def read(self, path: str, start: int, stop: int) -> bytes:
        """The bytes ``[start, stop)`` of the object that was first looked at; requests that fail are tried again.

        Raises:
            ConvkitError: they can't be read, or the object has changed.
        """
        expected = self.pinned(path)

        def attempt() -> bytes:
            try:
                data = self.request(path, start, stop, expected)
                if len(data) != stop - start:
                    raise TransientError(f"the connection ended after {len(data)} of {stop - start} bytes")
            except (TransientError, MissingError) as error:
                self._check_same(path, expected, error)
                raise
            except DeniedError as error:
                if not self._answered:
                    raise
                self.renew()
                raise TransientError("access denied now, and not before: the credentials may have expired") from error
            self._answered = True
            return data

        return retrying(attempt, self.shown(path), RETRIES)

    def _check_same(self, path: str, expected: Object, error: Exception) -> None:
        """Whether a request failed because the object isn't the one that was first looked at."""
        self.forget()
        try:
            now = self.look(path)
        except MissingError:
            now = None
        except (ConvkitError, TransientError):
            return  # it failed for another reason
        if now != expected:
            raise changed(self.shown(path), gone=now is None) from error


def changed(uri: str, *, gone: bool = False) -> ConvkitError:
    """The error for an object that isn't what it was."""
    return ConvkitError(
        "is gone since it was read" if gone else "changed while it was read",
        path=uri,
        remedy="let nothing write to the source, and start again",
    )


class Roots:
    """The stores that were opened, by a name that stands first in the parts of their paths."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, Store] = {}

    def add(self, scheme: str, store: Store) -> str:
        """Enter a store; returns its name, which no other has."""
        with self._lock:
            name = f"{scheme}:{len(self._known)}"
            self._known[name] = store
        return name

    def __getitem__(self, name: str) -> Store:
        return self._known[name]


ROOTS = Roots()
