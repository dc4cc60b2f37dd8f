"""Digest the stored leaves that leaves are made of, each once, so that a resumed run can see that they are the same."""

from __future__ import annotations

from concurrent.futures import Future
from threading import Lock

from convkit.checkpoint import Tensors
from convkit.checkpoint.digests import digest_leaf
from convkit.execute.job import Job


class Origins:
    """Digests of the source's leaves, and of those of an earlier complement. Any thread may ask.

    Attributes:
        digests: those of the source, by key.
    """

    def __init__(self, source: Tensors, algorithm: str) -> None:
        self.source = source
        self.algorithm = algorithm
        self.digests: dict[str, str] = {}
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
            future = self._taken.get((id(tensors), key))
            if mine := future is None:
                future = self._taken[id(tensors), key] = Future()
                future.set_running_or_notify_cancel()
        if mine:
            try:
                future.set_result(digest_leaf(tensors, key, self.algorithm))
            except BaseException as error:
                future.set_exception(error)
                raise
            if tensors is self.source:
                self.digests[key] = future.result()
        return future.result()

    def note(self, tensors: Tensors, key: str, digest: str) -> None:
        """Note the digest of a stored leaf whose bytes were all seen."""
        with self._lock:
            if (id(tensors), key) not in self._taken:
                future = self._taken[id(tensors), key] = Future()
                future.set_result(digest)
                if tensors is self.source:
                    self.digests[key] = digest
