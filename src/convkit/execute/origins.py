"""Digest the stored leaves that leaves are made of, each once, so that a resumed run can see that they are the same."""

from __future__ import annotations

from concurrent.futures import Future
from threading import Lock
from typing import TYPE_CHECKING

from convkit.checkpoint import Tensors
from convkit.checkpoint.digests import BlockDigests, combine, digest_leaf
from convkit.execute.job import Job

if TYPE_CHECKING:
    import numpy as np


class Passing:
    """Digests a stored leaf while somebody reads it whole for another purpose, so that it isn't read again."""

    def __init__(self, origins: Origins, tensors: Tensors, key: str) -> None:
        self._origins = origins
        self._tensors = tensors
        self._key = key
        self._digests = None if origins.has(tensors, key) else BlockDigests(origins.algorithm)

    def update(self, data: np.ndarray) -> None:
        """Take the next elements, in order."""
        if self._digests:
            self._digests.update(data)

    def take(self, data: np.ndarray) -> None:
        """Take all elements at once."""
        self.update(data)
        self.finish()

    def finish(self) -> None:
        """Note the digest: all elements have passed."""
        if self._digests:
            digest = combine(self._origins.algorithm, self._digests.blocks())
            self._origins.note(self._tensors, self._key, digest)


class Origins:
    """Digests of the source's leaves, and of those of an earlier complement. Any thread may ask.

    Attributes:
        digests: those of the source, by key.
    """

    def __init__(self, source: Tensors, algorithm: str) -> None:
        self.source = source
        self.algorithm = algorithm
        self.digests: dict[str, str] = {}
        #: by what holds them
        self._known: dict[int, dict[str, str]] = {id(source): self.digests}
        #: those that are being computed: a future takes more than a kilobyte
        self._taken: dict[tuple[int, str], Future[str]] = {}
        self._lock = Lock()

    def of(self, job: Job) -> dict[str, str]:
        """The digest of each stored leaf that a job's leaf is made of; names begin with the role of what holds it.

        Raises:
            ConvkitError: one can't be read.
        """
        found = {}
        for tensors, key in job.origins():
            role = "source" if tensors is self.source else "earlier"
            found[f"{role}:{key}"] = self.digest(tensors, key)
        return found

    def digest(self, tensors: Tensors, key: str) -> str:
        """The digest of a stored leaf, which is read unless its digest is known.

        Raises:
            ConvkitError: it can't be read.
        """
        with self._lock:
            if (known := self._of(tensors).get(key)) is not None:
                return known
            future = self._taken.get((id(tensors), key))
            if mine := future is None:
                future = self._taken[id(tensors), key] = Future()
                future.set_running_or_notify_cancel()
        if mine:
            try:
                found = digest_leaf(tensors, key, self.algorithm)
            except BaseException as error:
                future.set_exception(error)
                raise
            with self._lock:
                self._of(tensors)[key] = found
                del self._taken[id(tensors), key]
            future.set_result(found)
        return future.result()

    def has(self, tensors: Tensors, key: str) -> bool:
        """Whether the digest of a stored leaf is known, or somebody computes it."""
        with self._lock:
            return self._has(tensors, key)

    def passing(self, tensors: Tensors, key: str) -> Passing:
        """What digests a stored leaf that is about to be read whole, in order."""
        return Passing(self, tensors, key)

    def note(self, tensors: Tensors, key: str, digest: str) -> None:
        """Note the digest of a stored leaf whose bytes were all seen."""
        with self._lock:
            if not self._has(tensors, key):
                self._of(tensors)[key] = digest

    def _has(self, tensors: Tensors, key: str) -> bool:
        return key in self._of(tensors) or (id(tensors), key) in self._taken

    def _of(self, tensors: Tensors) -> dict[str, str]:
        """The digests that are known of what holds leaves."""
        return self._known.setdefault(id(tensors), {})
