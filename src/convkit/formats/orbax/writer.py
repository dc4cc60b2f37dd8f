"""Writes an Orbax checkpoint: arrays as they come, and their metadata on commit.

The commit first completes each item (small files, then its database), then the step's files, and marks the checkpoint
as complete last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convkit.checkpoint import Leaf, WriteOptions, Writer
from convkit.checkpoint.tensors import carrier
from convkit.errors import ConvkitError
from convkit.files.clock import now_s
from convkit.files.sync import sync_tree
from convkit.formats.arrays.folders import LeafFolderWriter, write_file
from convkit.formats.arrays.ocdbt_writer import OcdbtWriter
from convkit.formats.arrays.writer import StoredArrayWriter
from convkit.formats.orbax.api import Api
from convkit.formats.orbax.output import OutputItem, lay_out
from convkit.formats.orbax.record import KEY, Record
from convkit.formats.plain.io_errors import written_below
from convkit.state.orbax import arrays, step, texts, tree
from convkit.state.orbax.step import StepMetadata

if TYPE_CHECKING:
    import numpy as np


class OrbaxWriter(Writer):
    """Writes a step of items, or a checkpoint without items if the record is of one and the API supports it.

    Raises:
        ConvkitError: a leaf that Orbax can't hold, or a folder that can't be made.
        UsageError: chunks that don't fit their leaf, or an unknown compressor.
    """

    def __init__(self, path: Path, leaves: Sequence[Leaf], options: WriteOptions, api: Api) -> None:
        self._path = path
        self._api = api
        self._outlet = options.outlet
        self._record = Record.from_json(options.metadata[KEY]) if KEY in options.metadata else Record()
        self._items = lay_out(path, leaves, self._record, options, api)
        #: one time for all that says one: what is made again at that time has the same bytes
        self._time_ns = now_s() * 1_000_000_000
        with written_below(self._path):
            path.mkdir(parents=True, exist_ok=True)
        self._writers: dict[str, StoredArrayWriter] = {}
        for name, item in self._items.items():
            if item.arrays:
                self._writers[name] = self._arrays_writer(item)
        self.shared = all(writer.shared for writer in self._writers.values())
        self.splits = all(writer.splits for writer in self._writers.values())
        self._places = {key: (name, inner) for name, item in self._items.items() for key, inner in item.names.items()}

    def granularity(self, key: str) -> int:
        """A row of chunks."""
        writer, name = self._place(key)
        return writer.granularity(name) if writer else 1

    def stretch(self, key: str) -> int:
        """The rows of chunks that lie in one file."""
        writer, name = self._place(key)
        return writer.stretch(name) if writer else 1

    def write(self, key: str, start: int, data: np.ndarray) -> None:
        """Write whole chunks."""
        writer, name = self._place(key)
        if writer is None:
            raise ConvkitError("isn't a tensor", path=self._path, key=key, remedy="report this")
        writer.write(name, start, data)

    def finish(self, key: str) -> None:
        """Wait until the leaf's chunks are stored."""
        writer, name = self._place(key)
        if writer:
            writer.finish(name)

    def settle(self, key: str) -> None:
        """Wait until the leaf's chunks that were written so far are stored."""
        writer, name = self._place(key)
        if writer:
            writer.settle(name)

    def sync(self) -> None:
        """Sync what this process has written of every item."""
        for writer in self._writers.values():
            writer.sync()

    def copy_leaf(self, key: str, files: Mapping[str, Path]) -> bool:
        """Copy an array that is stored exactly as it will be written."""
        writer, name = self._place(key)
        return writer is not None and writer.copy_leaf(name, files)

    def copy_chunks(self, key: str, start: int, stop: int, packed: object) -> bool:
        """Write chunks as they are packed, of an array whose chunks are stored so."""
        writer, name = self._place(key)
        return writer is not None and writer.copy_chunks(name, start, stop, packed)

    def commit(self) -> None:
        """Complete every item, then the step."""
        for name, item in self._items.items():
            self._write_files(item)
            if name in self._writers:
                if not self._writers[name].committed:
                    self._write_numbers(name)
                self._writers[name].commit()
        self._write_step()
        sync_tree(self._path)

    def close(self) -> None:
        """Release the arrays."""
        for writer in self._writers.values():
            writer.close()

    def _place(self, key: str) -> tuple[StoredArrayWriter | None, str]:
        """The writer of a leaf's item, and the leaf's name in it; no writer where the leaf isn't a tensor."""
        if key not in self._places:
            raise ConvkitError("no leaf of this name was laid out", path=self._path, key=key, remedy="report this")
        item, name = self._places[key]
        return None if name in self._items[item].numbers else self._writers.get(item), name

    def _arrays_writer(self, item: OutputItem) -> StoredArrayWriter:
        folder = self._path / item.folder
        assert item.tree is not None
        if item.tree.use_ocdbt:
            return OcdbtWriter(folder, item.arrays, self._time_ns, self._outlet)
        return LeafFolderWriter(folder, item.arrays, self._outlet)

    def _write_numbers(self, item: str) -> None:
        """Write values that are Python numbers, which are stored as arrays; the caller doesn't write them."""
        import numpy as np

        for name, number in self._items[item].numbers.items():
            spec = self._items[item].arrays[name].spec
            data = np.array([number], spec.dtype).view(carrier(spec.dtype))
            self._writers[item].write(name, 0, data)
            self._writers[item].finish(name)

    def _write_files(self, item: OutputItem) -> None:
        """Write an item's files besides its arrays."""
        files = {file: text.encode() for file, text in item.files.items()}
        if item.tree:
            files |= {Path(item.folder, name).as_posix(): data for name, data in _tree_files(item).items()}
        if self._api.commits_items and item.folder:
            folders = {folder for file in files for folder in Path(file).parents if folder.name}
            files |= {f"{folder}/{step.COMMIT}": self._committed(str(folder)) for folder in folders}
        self._write(files)

    def _write_step(self) -> None:
        handlers: Any = {name: item.handler for name, item in self._items.items()}
        metadata = StepMetadata.new(handlers.get("", handlers), self._record.step, self._time_ns, self._time_ns)
        self._write({step.FILE: metadata.dumps(), step.COMMIT: self._committed("")})
        if self._api.marked:
            self._write({step.INDICATOR: b""})

    def _committed(self, folder: str) -> bytes:
        """Write Orbax's commit marker. It contains the final path, which isn't known yet, so only its name."""
        return step.committed(Path(self._path.name, folder))

    def _write(self, files: Mapping[str, bytes]) -> None:
        with written_below(self._path):
            for name, data in files.items():
                (self._path / name).parent.mkdir(parents=True, exist_ok=True)
                write_file(self._path / name, data)


def _tree_files(item: OutputItem) -> dict[str, bytes]:
    """The files that describe an item's tree and its arrays."""
    assert item.tree is not None
    files = {tree.FILE: item.tree.dumps()}
    shardings, entries = {}, {}
    for node in item.tree.nodes:
        if node.value_type != tree.ARRAY:
            continue
        known, zarray = item.records[node.place], item.arrays[node.place]
        shardings[node.name] = known.sharding or arrays.single_device()
        shape = tuple(node.value.get("write_shape") or zarray.chunks)
        entries[node.name] = arrays.array_metadata(node.name, shape, zarray.decoded, known.key_algorithm)
    if shardings:
        files[arrays.SHARDING_FILE] = arrays.dump_shardings(shardings)
        files[f"{arrays.ARRAYS_FOLDER}/process_0"] = arrays.dump_array_metadatas(entries)
    if item.texts:
        files[texts.FILE] = texts.dumps(item.texts)
    return files
