"""A folder of arrays, each a zarr folder that is called as its leaf: what T5X and Pax write, read and written."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from convkit.checkpoint import WriteOptions, Writer
from convkit.errors import ConvkitError, UsageError
from convkit.formats import zarr2
from convkit.formats.array_checkpoint import FolderArray
from convkit.formats.array_store import ArrayWriter, StoredArray, file_store
from convkit.formats.file_copy import copy_file
from convkit.formats.ranges import block
from convkit.formats.zarr2 import Zarray
from convkit.formats.zarr_chunks import stored_chunks
from convkit.tensors import TensorSpec, carrier

if TYPE_CHECKING:
    import numpy as np

#: what file systems allow
_NAME_BYTES = 255
_CHUNK_NAME = re.compile(r"\d+(\.\d+)*")
#: a folder that is being copied, and files that tensorstore is writing
_UNFINISHED = (".convkit-part", ".__lock")


def leaf_names(folder: Path) -> list[str]:
    """Sub-folders that are arrays: with a ``.zarray``, or with chunks only, whose ``.zarray`` is missing."""
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and _is_array(Path(entry)))


def read_leaf(folder: Path, missing: Zarray | None = None) -> FolderArray:
    """The array in a folder; ``missing`` stands in where there is no ``.zarray``.

    Raises:
        ConvkitError: nothing says what it is, or a chunk is missing or cut.
    """
    described = folder / zarr2.NAME
    try:
        zarray, files = zarr2.parse(described.read_bytes(), described), [described]
    except FileNotFoundError:
        if missing is None:
            raise ConvkitError(
                "has no .zarray, and nothing else says its shape and dtype",
                path=folder,
                key=folder.name,
                remedy="copy the folder again, hidden files included",
            ) from None
        zarray, files = missing, []
    files += stored_chunks(folder, zarray, folder.name)
    return FolderArray(zarray, file_store(str(folder.absolute())), folder, tuple(files))


class LeafFolderWriter(Writer):
    """Writes leaves as folders of one folder.

    A folder is made when its leaf is first written. Resuming needs no record: what was finished is
    files, and what wasn't is written again over what is there.

    Args:
        specs: the leaves that become folders.
        default: the compressor, where the options name none.

    Raises:
        ConvkitError: a name that no folder can have.
        UsageError: chunks that don't fit their leaf, no such compressor.
    """

    def __init__(
        self, folder: Path, specs: Mapping[str, TensorSpec], options: WriteOptions, default: dict[str, object]
    ) -> None:
        self.folder = folder
        self._options = options
        compressor = default if options.compressor is None else zarr2.parse_compressor(options.compressor)
        self.arrays: dict[str, StoredArray] = {}
        for key, spec in specs.items():
            _check_name(folder, key)
            chunks = _chunks(key, spec, options)
            self.arrays[key] = StoredArray(Zarray(spec, chunks, compressor), file_store(str(folder.absolute() / key)))
        self._writer = ArrayWriter(self.arrays)
        with self.io_errors():
            folder.mkdir(parents=True, exist_ok=True)

    def granularity(self, key: str) -> int:
        """A row of chunks; all of the leaf where chunks run along another axis than its first."""
        array = self.arrays.get(key)
        return block(array.zarray.spec.shape, array.zarray.chunks) if array else 1

    def write(self, key: str, start: int, data: np.ndarray) -> None:
        """Write whole chunks."""
        spec = self.checked(key, start, data)
        grain = self.granularity(key)
        if start % grain or (data.size % grain and start + data.size != spec.size):
            raise ConvkitError(
                f"elements {start} to {start + data.size} are no whole chunks of {grain}",
                path=self.folder,
                key=key,
                remedy="report this",
            )
        self._writer.write(key, start, data)

    def finish(self, key: str) -> None:
        """Wait until the leaf's chunks are files."""
        if key in self.arrays:
            self._writer.finish(key)

    def copy_leaf(self, key: str, files: Mapping[str, Path]) -> bool:
        """Copy an array's folder, with its own chunks and compressor, unless the user asked for others."""
        array = self.arrays.get(key)
        described = files.get(zarr2.NAME)
        if array is None or described is None:
            return False
        wanted, stored = array.zarray, zarr2.parse(described.read_bytes(), described)
        other_chunks = key in self._options.chunks and stored.chunks != wanted.chunks
        other_compressor = self._options.compressor is not None and stored.compressor != wanted.compressor
        if stored.spec != wanted.spec or other_chunks or other_compressor:
            return False
        final, part = self.folder / key, self.folder / f"{key}{_UNFINISHED[0]}"
        with self.io_errors():
            for leftover in (part, final):
                remove(leftover)
            for name, file in files.items():
                target = part / name
                target.parent.mkdir(parents=True, exist_ok=True)
                copy_file(file, target)
            part.rename(final)
        return True

    def commit(self) -> None:
        """Check that every leaf is whole, complete the folder, and sync it."""
        with self.io_errors():
            for entry in os.scandir(self.folder):
                if entry.is_dir():
                    _clear(Path(entry))
            for key in self.arrays:
                try:
                    read_leaf(self.folder / key)
                except ConvkitError:
                    raise ConvkitError(
                        "was not written in full", path=self.folder, key=key, remedy="convert again from the start"
                    ) from None
            self.complete()
            sync_tree(self.folder)

    def complete(self) -> None:
        """What a format adds once all leaves are there."""

    def close(self) -> None:
        """Let go of the arrays."""
        self._writer.close()

    def checked(self, key: str, start: int, data: np.ndarray, spec: TensorSpec | None = None) -> TensorSpec:
        """The leaf's spec, if what is written fits it."""
        spec = spec or (self.arrays[key].zarray.spec if key in self.arrays else None)
        if spec is None:
            raise ConvkitError("no tensor of this name was laid out", path=self.folder, key=key, remedy="report this")
        if data.dtype != carrier(spec.dtype) or start < 0 or start + data.size > spec.size:
            raise ConvkitError(
                f"elements {start}..{start + data.size} of {data.dtype} don't fit {spec.dtype}{list(spec.shape)}",
                path=self.folder,
                key=key,
                remedy="report this: the executor must write what was laid out",
            )
        return spec

    @contextmanager
    def io_errors(self) -> Iterator[None]:
        """Says what the system says in one line."""
        try:
            yield
        except OSError as error:
            raise ConvkitError(
                f"can't be written: {error.strerror or error}",
                path=error.filename or self.folder,
                remedy="check free space and permissions",
            ) from error


def write_file(path: Path, data: bytes) -> None:
    """A small file, whole or not at all."""
    part = path.with_name(f"{path.name}{_UNFINISHED[0]}")
    part.write_bytes(data)
    part.replace(path)


def remove(folder: Path) -> None:
    """Remove a folder, if it is there."""
    if folder.is_dir():
        shutil.rmtree(folder)


def sync_tree(folder: Path) -> None:
    """Sync all files below a folder, several at a time, then the folders."""
    folders = [Path(path) for path, _, _ in os.walk(folder)]
    files = [file for path in folders for file in path.iterdir() if file.is_file()]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(_sync, [*files, *folders]))


def _sync(path: Path) -> None:
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _is_array(folder: Path) -> bool:
    names = [entry.name for entry in os.scandir(folder)]
    return zarr2.NAME in names or (bool(names) and all(_CHUNK_NAME.fullmatch(name) for name in names))


def _clear(folder: Path) -> None:
    """Remove what a killed process left half done."""
    if folder.name.endswith(_UNFINISHED[0]):
        remove(folder)
        return
    for entry in os.scandir(folder):
        if entry.name.endswith(_UNFINISHED):
            Path(entry).unlink()


def _check_name(folder: Path, key: str) -> None:
    if key in ("", ".", "..") or "/" in key or "\0" in key or len(key.encode()) > _NAME_BYTES - len(_UNFINISHED[0]):
        raise ConvkitError("is no name that a folder can have", path=folder, key=key, remedy="rename the leaf")
    if key.endswith(_UNFINISHED):
        raise ConvkitError("is named like an unfinished file", path=folder, key=key, remedy="rename the leaf")


def _chunks(key: str, spec: TensorSpec, options: WriteOptions) -> tuple[int, ...]:
    chunks = options.chunks.get(key)
    if chunks is None:
        return zarr2.chunk_shape(spec.shape, spec.itemsize)
    if len(chunks) != len(spec.shape) or not all(n > 0 for n in chunks):
        raise UsageError(
            f"no chunks of {key}{list(spec.shape)}: {list(chunks)}", remedy="give a length above 0 for each axis"
        )
    return tuple(min(chunk, max(1, length)) for chunk, length in zip(chunks, spec.shape, strict=True))
