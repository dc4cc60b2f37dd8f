"""Opens HDF5 files, on this machine or in a store.

HDF5 reads a file in a store through Python, and keeps h5py's lock while other threads fetch the bytes. If one of them
collected garbage with objects of h5py in it, it would wait for that lock, and both for ever (h5py's documentation of
files, "Python file-like objects"). So whoever uses HDF5 keeps garbage from being collected meanwhile.
"""

from __future__ import annotations

import gc
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from convkit.checkpoint.source_files import Ranged

if TYPE_CHECKING:
    import h5py


def opened(path: Path) -> h5py.File:
    """The file, opened to read. One in a store must be closed before the interpreter ends.

    Raises:
        OSError: it isn't HDF5.
        ConvkitError: the store doesn't give it.
    """
    import h5py

    if isinstance(path, Ranged):
        return h5py.File(path.scattered(), "r")
    return h5py.File(path, "r", locking="best-effort")


class _Uncollected:
    """A context in which no garbage is collected. Threads may be in it at the same time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._collects = False

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._collects = gc.isenabled()
                gc.disable()
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside and self._collects:
                gc.enable()


UNCOLLECTED = _Uncollected()
