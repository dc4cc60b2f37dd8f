"""Which arrays an item stores, and which parts of them are absent: told from the store's index, without reading data.

Orbax keeps arrays in an OCDBT database, or each in a folder of its own. tensorstore's ``ocdbt.dump`` (0.1.86)
tells where in which file each value lies.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from convkit.errors import ConvkitError
from convkit.formats.arrays import zarr2, zarr3
from convkit.formats.arrays.zarr import ZarrArray
from convkit.orbax.check.outcome import OrbaxError
from convkit.state.orbax.layout import MANIFEST

_NODE, _VALUE = "btreenode::", "value:"


class Store:
    """The arrays of an item, of one zarr version, in a database or in folders."""

    def __init__(self, folder: Path, *, ocdbt: bool, version3: bool) -> None:
        self.folder, self.ocdbt = folder, ocdbt
        self.parse = zarr3.parse if version3 else zarr2.parse
        self._opened: dict[str, ZarrArray] = {}
        self.name = zarr3.Zarr3Array.name if version3 else zarr2.Zarray.name

    def open(self, name: str) -> ZarrArray:
        """An array by its storage name, "" for the one of a tree that is a leaf.

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
        """Whether the array's folder says what the array is."""
        return (self.folder / name / self.name).is_file()

    def unstored(self, name: str, array: ZarrArray) -> Iterator[str]:
        """Chunks that aren't stored: tensorstore makes fill values of them, or an error."""
        for chunk in array.chunk_names():
            key = f"{name}/{chunk}" if name else chunk
            if not (key in self._values if self.ocdbt else (self.folder / key).is_file()):
                yield key

    def lost(self, name: str, array: ZarrArray) -> Iterator[str]:
        """Chunks whose bytes the database places in a file that isn't there or ends before them."""
        if self.ocdbt and self._lost:
            for chunk in array.chunk_names():
                key = f"{name}/{chunk}" if name else chunk
                if key in self._lost:
                    yield f"{key} lies in {self._lost[key]}"

    def _read(self, key: str) -> bytes | None:
        if self.ocdbt:
            return self._values.get(key)
        path = self.folder / key
        return path.read_bytes() if path.is_file() else None

    @cached_property
    def _values(self) -> dict[str, bytes]:
        """Inline values by key, empty ones for those that lie in data files.

        Raises:
            OrbaxError: the database can't be read.
        """
        import tensorstore

        if not (self.folder / MANIFEST).is_file():
            return {}
        base = {"driver": "file", "path": f"{self.folder.resolve()}/"}
        try:
            database = tensorstore.KvStore.open({"driver": "ocdbt", "base": base}).result()
            keys = [key.decode() for key in database.list().result()]
            reads = [(key, database.read(key)) for key in keys if key.endswith(self.name)]
            return dict.fromkeys(keys, b"") | {key: read.result().value for key, read in reads}
        except (ValueError, OSError) as error:
            raise OrbaxError("ValueError", _reason(error)) from None

    @cached_property
    def _lost(self) -> dict[str, str]:
        """By key, the data file of a value that isn't whole."""
        import tensorstore

        if not (self.folder / MANIFEST).is_file():
            return {}
        store = tensorstore.KvStore.open({"driver": "file", "path": f"{self.folder.resolve()}/"}).result()
        sizes: dict[str, int] = {}
        lost = {}
        for entry in _entries(store):
            # value:ocdbt.process_0/:d/7a23..:offset:length
            if "indirect_value" not in entry:
                continue
            *place, offset, length = entry["indirect_value"].removeprefix(_VALUE).split(":")
            file = "".join(place)
            if file not in sizes:
                path = self.folder / file
                sizes[file] = path.stat().st_size if path.is_file() else -1
            if sizes[file] < int(offset) + int(length):
                lost[entry["key"].decode()] = f"{file}, which {'is cut' if sizes[file] >= 0 else 'is missing'}"
        return lost


def _entries(store: Any) -> Iterator[dict[str, Any]]:
    """The entries of the newest version's leaf nodes."""
    import tensorstore

    versions = tensorstore.ocdbt.dump(store).result()["versions"]
    nodes = [versions[-1]["root"]] if versions else []
    while nodes:
        location = nodes.pop().get("location")
        if location is None:  # the root of an empty database
            continue
        for entry in tensorstore.ocdbt.dump(store, location).result()["entries"]:
            if str(entry.get("location", "")).startswith(_NODE):
                nodes.append(entry)
            else:
                yield entry


def _reason(error: Exception) -> str:
    """The beginning of tensorstore's message, without the trace of source lines."""
    return str(error).split(" [")[0].splitlines()[0]
