"""A limit on the bytes that are being written at the same time."""

from __future__ import annotations

import threading


class Budget:
    """Bytes that may be in flight; a request above the limit goes alone."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._flying = 0
        self._changed = threading.Condition()

    def take(self, nbytes: int) -> None:
        """Wait until ``nbytes`` are free."""
        with self._changed:
            self._changed.wait_for(lambda: not self._flying or self._flying + nbytes <= self._limit)
            self._flying += nbytes

    def give(self, nbytes: int, _: object = None) -> None:
        """Free ``nbytes``; also called with the future that is done."""
        with self._changed:
            self._flying -= nbytes
            self._changed.notify_all()
