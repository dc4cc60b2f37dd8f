"""Find which arrays an item stores and which parts of them are missing, from the store's index, without reading data.

Orbax keeps arrays in an OCDBT database, or each in a folder of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path

from convkit.errors import ConvkitError
from convkit.formats.arrays import zarr2, zarr3
from convkit.formats.arrays.ocdbt_entries import Entry, read_entries
from convkit.formats.arrays.zarr import ZarrArray
from convkit.orbax.check.outcome import OrbaxError
from convkit.state.orbax.layout import MANIFEST


class Store:
    """The arrays of an item, of one zarr version, in a database or in folders."""

    def __init__(self, folder: Path, *, ocdbt: bool, version3: bool) -> None:
        self.folder, self.ocdbt = folder, ocdbt
        self.parse = zarr3.parse if version3 else zarr2.parse
        self._opened: dict[str, ZarrArray] = {}
        self._lengths: dict[Path, int] = {}
        self.name = zarr3.Zarr3Array.name if version3 else zarr2.Zarray.name

    def open(self, name: str) -> ZarrArray:
        """An array by its storage name, "" where the tree is one leaf.

        Raises:
            OrbaxError: tensorstore can't open it.
        """
        if name in self._opened:
            return self._opened[name]
        key = f"{name}/{self.name}" if name else self.name
        text = self._read(key)
        if text is None:
            raise OrbaxError("ValueError", f"{key} isn't stored")
        try:
            return self._opened.setdefault(name, self.parse(text, f"{self.folder}/{key}"))
        except ConvkitError as error:
            raise OrbaxError("ValueError", f"{key} {error.problem}") from None

    def has_metadata(self, name: str) -> bool:
        """Whether the array's folder holds its metadata."""
        return (self.folder / name / self.name).is_file()

    def unstored(self, name: str, array: ZarrArray) -> Iterator[str]:
        """Chunks that aren't stored: tensorstore reads fill values for them, or raises an error."""
        for chunk in array.chunk_names():
            key = f"{name}/{chunk}" if name else chunk
            if not (key in self._entries if self.ocdbt else (self.folder / key).is_file()):
                yield key

    def lost(self, name: str, array: ZarrArray) -> Iterator[str]:
        """Chunks whose bytes the database places in a file that isn't there or ends before them."""
        for chunk in array.chunk_names() if self.ocdbt else ():
            key = f"{name}/{chunk}" if name else chunk
            entry = self._entries.get(key)
            if entry and entry.file and (length := self._length(entry.file)) < entry.stop:
                file = entry.file.relative_to(self.folder)
                yield f"{key} lies in {file}, which {'is missing' if length < 0 else 'is cut'}"

    def _length(self, file: Path) -> int:
        """The length of a file; -1 where it is missing."""
        if file not in self._lengths:
            self._lengths[file] = file.stat().st_size if file.is_file() else -1
        return self._lengths[file]

    def _read(self, key: str) -> bytes | None:
        if self.ocdbt:
            try:
                return entry.value() if (entry := self._entries.get(key)) else None
            except OSError as error:
                raise OrbaxError("ValueError", f"{key} can't be read: {error.strerror}") from None
        path = self.folder / key
        return path.read_bytes() if path.is_file() else None

    @cached_property
    def _entries(self) -> Mapping[str, Entry]:
        """Where the database keeps the value of each key; files may be missing or truncated.

        Raises:
            OrbaxError: the database can't be read.
        """
        if not (self.folder / MANIFEST).is_file():
            return {}
        try:
            return read_entries(self.folder, whole=False)
        except ConvkitError as error:
            raise OrbaxError("ValueError", error.problem) from None
