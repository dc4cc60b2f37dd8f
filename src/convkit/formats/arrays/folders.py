"""A folder of arrays, each a zarr folder that has the name of its leaf, read and written: T5X, Pax, plain Orbax."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from convkit.checkpoint.outlet import Outlet
from convkit.checkpoint.threads import openers
from convkit.errors import ConvkitError
from convkit.files.sharing import copy_file
from convkit.files.sync import Ahead, sync, sync_tree
from convkit.formats.arrays import zarr2, zarr3
from convkit.formats.arrays.frames import Frames
from convkit.formats.arrays.reader import FolderArray
from convkit.formats.arrays.store import StoredArray, file_store
from convkit.formats.arrays.store_writer import ArrayWriter
from convkit.formats.arrays.whole_chunks import stored_chunks
from convkit.formats.arrays.writer import StoredArrayWriter
from convkit.formats.arrays.zarr import ZarrArray
from convkit.formats.plain.io_errors import written_below

if TYPE_CHECKING:
    import numpy as np

#: names of an array's metadata file, by zarr version
METADATA = (zarr2.NAME, zarr3.NAME)
_CHUNK_NAME = re.compile(r"\d+(\.\d+)*")
#: suffixes of a folder that is being copied, and of a file that tensorstore is writing
UNFINISHED = (".convkit-part", ".__lock")


def leaf_names(folder: Path) -> list[str]:
    """Names of the sub-folders that are arrays: those with a ``.zarray``, and those with chunks alone."""
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and _is_array(entry))


def read_leaf(folder: Path, missing: ZarrArray | None = None, *, complete: bool = False) -> FolderArray:
    """The array in a folder, in either version of zarr; ``missing`` is used where the folder has no metadata.

    Args:
        complete: require all chunks, even if the metadata has a fill value for absent ones.

    Raises:
        ConvkitError: no metadata and no ``missing``, or a chunk is missing or truncated.
    """
    described = next(filter(None, (_metadata(folder / name) for name in METADATA)), None)
    if described is not None:
        zarray, files = described, [folder / described.name]
    elif missing is not None:
        zarray, files = missing, []
    else:
        raise ConvkitError(
            f"has no {zarr2.NAME}, and nothing else says its shape and dtype",
            path=folder,
            key=folder.name,
            remedy="copy the folder again, hidden files included",
        )
    chunks = stored_chunks(folder, zarray, folder.name, complete=complete)
    whole = len(chunks) == zarray.chunk_count
    return FolderArray(zarray, file_store(folder), folder, (*files, *chunks), whole=whole)


def read_leaves(top: Path, missing: Mapping[str, ZarrArray | None] | None = None) -> dict[str, FolderArray]:
    """All arrays in the folders below one, by their names; ``missing`` as :func:`read_leaf` has it, by name.

    Raises:
        ConvkitError: as :func:`read_leaf`.
    """
    names, known = leaf_names(top), missing or {}
    with openers(top) as pool:
        return dict(zip(names, pool.map(lambda name: read_leaf(top / name, known.get(name)), names), strict=True))


def parse_metadata(path: Path) -> ZarrArray:
    """The array that a metadata file describes, in either version of zarr.

    Raises:
        ConvkitError: it describes no array, or one that convkit doesn't read.
    """
    return (zarr3 if path.name == zarr3.NAME else zarr2).parse(path.read_bytes(), path)


def _metadata(path: Path) -> ZarrArray | None:
    """What a metadata file describes; None if there is no such file."""
    try:
        return parse_metadata(path)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None


def not_written(folder: Path, key: str) -> ConvkitError:
    """The error for an array that isn't complete at commit."""
    return ConvkitError("was not written in full", path=folder, key=key, remedy="convert again from the start")


class LeafFolderWriter(StoredArrayWriter):
    """Writes each array as a folder named by its key, below one folder; "/" in a key makes nested folders.

    A folder is made when its array is first written. Resuming needs no record: finished arrays are files already, and
    unfinished ones are overwritten.

    An outlet takes each file of chunks: as soon as a range of the array is stored, or, where it is copied, with all of
    it. The array's metadata stays.
    """

    shared = True

    def __init__(self, folder: Path, arrays: Mapping[str, ZarrArray], outlet: Outlet | None = None) -> None:
        self._outlet = outlet
        self._ahead = Ahead()
        top = folder.absolute()
        super().__init__(folder, arrays)
        self._writer = ArrayWriter({key: StoredArray(array, file_store(top / key)) for key, array in arrays.items()})
        #: what lies in each folder, once all are written: a copied array may have other chunks than a written one
        self.found: dict[str, ZarrArray] = {}
        #: folders that hold other arrays, so they aren't replaced
        self._above = {parent for key in arrays for parent in _parents(key)}
        #: arrays that this process has written to
        self._written: set[str] = set()

    def sync(self) -> None:
        """Sync the arrays that this process has written to."""
        with written_below(self.folder):
            self._ahead.wait()
            for key in self._written:
                sync_tree(self.folder / key)
            sync(self.folder)

    def store(self, key: str, start: int, data: np.ndarray) -> None:
        """Write whole chunks."""
        self._written.add(key)
        self._writer.write(key, start, data)
        self._give_away(key, self.arrays[key].chunk_numbers(start, start + data.size))

    def _give_away(self, key: str, numbers: range) -> None:
        """Let the files of chunks that were written go, if there is an outlet."""
        if self._outlet:
            self._writer.settle(key)
            for name in self.arrays[key].chunk_names(numbers.start, numbers.stop):
                self._outlet.whole(self.folder / key / name)

    def settle(self, key: str) -> None:
        """Wait until the chunks that were written so far are stored."""
        if key in self.arrays:
            self._writer.settle(key)

    def finish(self, key: str) -> None:
        """Wait until the leaf's chunks are stored."""
        if key in self.arrays:
            self._writer.finish(key)
            self._sync_ahead(key, self.arrays[key].chunk_names())

    def _sync_ahead(self, key: str, names: Iterable[str]) -> None:
        """Begin to sync an array's files, unless they are taken."""
        if not self._outlet:
            for name in names:
                file = self.folder / key / name
                with suppress(FileNotFoundError):  # the commit tells of it
                    self._ahead.wrote(file, file.stat().st_size)

    def close(self) -> None:
        """Release the arrays."""
        self._ahead.close()
        self._writer.close()

    def takes(self, key: str, stored: ZarrArray) -> bool:
        """Whether an array stored as ``stored`` may be copied as it is."""
        return stored == self.arrays[key]

    def copy_leaf(self, key: str, files: Mapping[str, Path]) -> bool:
        """Copy an array's folder."""
        array = self.arrays.get(key)
        if array is None or array.name not in files or key in self._above:
            return False
        described = files[array.name]
        if not self.takes(key, parse_metadata(described)):
            return False
        final = self.folder / key
        part = final.with_name(f"{final.name}{UNFINISHED[0]}")
        with written_below(self.folder):
            for leftover in (part, final):
                remove(leftover)
            for folder in dict.fromkeys((part / name).parent for name in files):
                folder.mkdir(parents=True, exist_ok=True)
            for name, file in files.items():
                copy_file(file, part / name)
            part.rename(final)
        self._written.add(key)
        self._sync_ahead(key, files)
        if self._outlet:
            for name in files:
                if name != array.name:
                    self._outlet.whole(final / name)
        return True

    def store_packed(self, key: str, numbers: range, packed: Frames) -> None:
        """Write chunks as they are packed."""
        self._written.add(key)
        array = self.arrays[key]
        names = array.chunk_names(numbers.start, numbers.stop)
        for name, pieces in zip(names, packed.chunks(array, numbers), strict=True):
            self._writer.put(key, name, b"".join(pieces))
        self._give_away(key, numbers)

    def commit(self) -> None:
        """Check that every array is whole, complete the folder, and sync it."""
        with written_below(self.folder):
            _clear(self.folder)
            for key in self.arrays:
                try:
                    self.found[key] = self._complete(self.folder / key)
                except ConvkitError:
                    raise not_written(self.folder, key) from None
            self.complete()
            self._ahead.wait()
            sync_tree(self.folder)

    def _complete(self, folder: Path) -> ZarrArray:
        """What lies in an array's folder; of chunks that an outlet has taken, only the names are there.

        Raises:
            ConvkitError: it isn't whole.
        """
        described = next(filter(None, (_metadata(folder / name) for name in METADATA)), None)
        if self._outlet is None or described is None:
            return read_leaf(folder, complete=True).zarray
        if not all((folder / name).is_file() for name in described.chunk_names()):
            raise not_written(folder.parent, folder.name)
        return described

    def complete(self) -> None:
        """Add what the format needs once all leaves are written."""


def write_file(path: Path, data: bytes) -> None:
    """Write a small file atomically."""
    part = path.with_name(f"{path.name}{UNFINISHED[0]}")
    part.write_bytes(data)
    part.replace(path)


def remove(folder: Path) -> None:
    """Remove a folder if it exists."""
    if folder.is_dir():
        shutil.rmtree(folder)


def _is_array(folder: Path) -> bool:
    names = [entry.name for entry in folder.iterdir()]
    return zarr2.NAME in names or (bool(names) and all(_CHUNK_NAME.fullmatch(name) for name in names))


def _clear(folder: Path) -> None:
    """Remove what a killed process left half done."""
    for path, folders, files in os.walk(folder):
        for name in [name for name in folders if name.endswith(UNFINISHED[0])]:
            remove(Path(path, name))
            folders.remove(name)
        for name in files:
            if name.endswith(UNFINISHED):
                Path(path, name).unlink()


def _parents(key: str) -> Iterator[str]:
    """All parents of a key's folder, up to and including the top one (an empty key)."""
    while key:
        key = key.rpartition("/")[0]
        yield key
