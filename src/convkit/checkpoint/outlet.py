"""Where the bytes of an output go as soon as they are final, so that they needn't all lie on this machine at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path

from convkit.checkpoint.source_files import Span


class Outlet(ABC):
    """Takes the bytes of staged files. Thread-safe; a call waits while much is on its way.

    A writer that is given one (:attr:`WriteOptions.outlet`) tells it of bytes that won't change any more. It may leave
    out whole files: then they stay where they are until all is made.

    Every method raises :class:`~convkit.errors.ConvkitError` if what was taken before can't be sent.
    """

    @abstractmethod
    def data(self, path: Path, start: int, stop: int) -> None:
        """Take elements of leaves, ``[start, stop)`` of a file that has its full size; they read as zeros later."""

    @abstractmethod
    def frame(self, path: Path, start: int, stop: int) -> None:
        """Take what lies around them, such as headers; it can still be read later."""

    @abstractmethod
    def whole(self, path: Path) -> None:
        """Take a file that is complete; only its name and its size stay."""

    @abstractmethod
    def holds(self, span: Span) -> bool:
        """Whether an earlier run, which was killed, had sent all of these bytes."""

    @property
    @abstractmethod
    def digests(self) -> Mapping[Path, str]:
        """The digest of each file that was taken whole."""
