"""Writing arrays into one OCDBT database, from any thread and process, resumably, and always with the same bytes.

The same arrays make the same files, whatever the order in which threads, processes and resumed runs write them: where a
chunk lies follows from its array (:mod:`~convkit.formats.arrays.ocdbt_layout`), the name of a file from its bytes
(:mod:`~convkit.formats.arrays.ocdbt_tree`). tensorstore only encodes chunks, in memory.

While arrays are written, ``.convkit-parts`` holds files that are being filled, and a log
(:mod:`~convkit.formats.arrays.ocdbt_log`) of the arrays that are finished, with the bytes of small ones. A full segment
of a large array goes into ``d/``. The commit gathers small values into data files, or, up to 1024 bytes, into the tree;
then it writes the tree over all keys, removes from ``d/`` what isn't in it, and writes the manifest last.

Several processes may write different arrays into one folder at a time, also from different machines that share it: each
opens a writer over *all* arrays, in the same order, writes and finishes some, and closes it. One of them, or another
process, then opens a writer and commits: it reads the logs of all.
"""

from __future__ import annotations

import json
import os
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from convkit.checkpoint.outlet import Outlet
from convkit.errors import ConvkitError
from convkit.files.sync import sync_tree
from convkit.formats.arrays.chunk_encoder import ChunkEncoder, Encoding
from convkit.formats.arrays.folders import not_written, parse_metadata, remove
from convkit.formats.arrays.frames import Frames
from convkit.formats.arrays.glibc import give_back_blocks
from convkit.formats.arrays.ocdbt import key_of
from convkit.formats.arrays.ocdbt_entries import MANIFEST
from convkit.formats.arrays.ocdbt_layout import SMALL, ArrayLayout, layout_digest
from convkit.formats.arrays.ocdbt_log import SUFFIX, Log, Record, read_logs
from convkit.formats.arrays.ocdbt_node import INLINE_BYTES, KEY_BYTES, Entry, Place
from convkit.formats.arrays.ocdbt_segment import Segment
from convkit.formats.arrays.ocdbt_tree import DATA, DataFile, Shared, SharedPlaces, write_database
from convkit.formats.arrays.store import store_error
from convkit.formats.arrays.writer import StoredArrayWriter
from convkit.formats.arrays.zarr import ZarrArray
from convkit.formats.plain.io_errors import unwritable, written_below

if TYPE_CHECKING:
    import numpy as np

_PARTS, _JOINED = ".convkit-parts", ".convkit-parts-joined"


class OcdbtWriter(StoredArrayWriter):
    """Writes arrays into a folder's database, each under its name.

    A writer that is opened after a kill has what was finished; the arrays must be the same, in the same order.

    Args:
        folder: the database's.
        arrays: all of them.
        time_ns: the time that the database is said to be of, in nanoseconds since 1970.
        outlet: takes the data file of each full segment; files that several small arrays share stay.

    Raises:
        ConvkitError: the folder can't be made, or a name is longer than a key can be.
    """

    shared, splits = True, False

    def __init__(
        self, folder: Path, arrays: Mapping[str, ZarrArray], time_ns: int, outlet: Outlet | None = None
    ) -> None:
        super().__init__(folder, arrays)
        self._time_ns = time_ns
        self._outlet = outlet
        self._layouts = {name: ArrayLayout(array) for name, array in arrays.items()}
        self._numbers = {name: number for number, name in enumerate(arrays)}
        for name, array in arrays.items():
            _check_name(folder, name, array)
        self._encoder = ChunkEncoder(self.arrays)
        self._open: dict[str, list[Segment]] = {}
        self._lock = threading.Lock()
        self._parts = folder / _PARTS
        self._digest = layout_digest(self._layouts)
        #: names what this writer begins
        self._token, self._begun = uuid.uuid4().hex, count()
        self._log = Log(self._parts / f"{self._digest}-{self._token}{SUFFIX}")
        give_back_blocks(SMALL)
        with written_below(folder):
            if not self.committed:
                self._parts.mkdir(exist_ok=True)

    @property
    def committed(self) -> bool:
        """Whether the database is complete already."""
        return (self.folder / MANIFEST).exists() and not self._parts.exists()

    def stretch(self, key: str) -> int:
        """The rows of chunks that lie in one file."""
        layout = self._layouts.get(key)
        return layout.rows * layout.zarray.row if layout else 1

    def store(self, key: str, start: int, data: np.ndarray) -> None:
        """Write whole chunks."""
        array, segments = self.arrays[key], self._segments(key)
        step, stop = self.stretch(key), start + data.size
        with self._written(key):
            for low in range(start - start % step, stop, step):
                first, last = max(low, start), min(low + step, stop)
                segment = segments[low // step]
                segment.check()
                numbers = array.chunk_numbers(first, last)
                segment.make_way(numbers)
                self._encoder.encode(key, first, data[first - start : last - start], numbers.start, segment.add)
                if self._outlet and segment.full:
                    self._complete(segment)

    def finish(self, key: str) -> None:
        """Wait until the leaf's chunks are stored, and log it."""
        if key not in self.arrays:
            return
        with self._written(key):
            found = [self._complete(segment) for segment in self._segments(key)]
            complete = [one for one in found if one is not None]
            if len(complete) < len(found):
                raise not_written(self.folder, key)
            self._log.append(self._numbers[key], complete)
        with self._lock:
            del self._open[key]
        self._encoder.forget(key)

    def copy_leaf(self, key: str, files: Mapping[str, Path]) -> bool:
        """Copy the chunk files of an array that is stored with the same metadata, if all chunks are."""
        array = self.arrays.get(key)
        if array is None or array.name not in files or parse_metadata(files[array.name]) != array:
            return False
        if not all(name in files for name in array.chunk_names()):
            return False
        with self._written(key):
            for chunks, segment in zip(self._layouts[key].segments(), self._segments(key), strict=True):
                for number, name in zip(chunks, array.chunk_names(chunks.start, chunks.stop), strict=True):
                    segment.put(number, [files[name].read_bytes()])
        self.finish(key)
        return True

    def store_packed(self, key: str, numbers: range, packed: Frames) -> None:
        """Write chunks as they are packed."""
        with self._written(key):
            for held, segment in zip(self._layouts[key].segments(), self._segments(key), strict=True):
                mine = range(max(held.start, numbers.start), min(held.stop, numbers.stop))
                if mine:
                    chunks = partial(packed.chunks, self.arrays[key], mine)
                    segment.add(Encoding(mine.start, len(mine), chunks, lambda: None))
                    segment.check()

    def sync(self) -> None:
        """Sync what is there."""
        with written_below(self.folder):
            sync_tree(self.folder)

    def commit(self) -> None:
        """Make one database of the arrays, check that each is complete, and sync the folder."""
        with written_below(self.folder):
            if self._parts.is_dir():
                if self.arrays:
                    self._join()
                self._parts.rename(self.folder / _JOINED)
            remove(self.folder / _JOINED)
            sync_tree(self.folder)

    def close(self) -> None:
        """Wait for what is being written, and close the files."""
        for segments in self._open.values():
            for segment in segments:
                segment.close()
        self._log.close()

    def _segments(self, key: str) -> list[Segment]:
        """The segments of an array, begun with its first write."""
        with self._lock:
            if key not in self._open:
                layout = self._layouts[key]
                new_file = None if layout.small else self._new_file
                self._open[key] = [Segment(chunks.start, len(chunks), new_file) for chunks in layout.segments()]
            return self._open[key]

    def _complete(self, segment: Segment) -> tuple[list[int], bytes] | None:
        """Complete a segment, and let its data file go."""
        found = segment.complete()
        if self._outlet and found and segment.large:
            with self._lock:
                told, segment.told = segment.told, True
            if not told:
                self._outlet.whole(self.folder / found[1].decode())
        return found

    def _new_file(self) -> DataFile:
        return DataFile(self.folder, self._parts / f"{self._token}-{next(self._begun)}")

    def _join(self) -> None:
        """Make the database of what the logs say, from scratch if an earlier process began it."""
        with ExitStack() as stack:
            logs = []
            for path in sorted(self._parts.glob(f"{self._digest}-*{SUFFIX}")):
                logs.append(os.open(path, os.O_RDONLY))
                stack.callback(os.close, logs[-1])
            records = read_logs(logs, self._layouts)
            for name in self.arrays:
                if name not in records:
                    raise not_written(self.folder, name)
            shared = Shared(self.folder, self._parts / "shared")
            used: set[str] = set()
            for _, value in _values(records):
                if isinstance(value, Place):
                    used.add(value.file)
                elif len(value) > INLINE_BYTES:
                    shared.add(value)
            names = shared.complete()
            entries = _placed(_values(records), SharedPlaces(names))
            used |= {*names, *write_database(self.folder, self._parts, entries, self._time_ns)}
            for path in (self.folder / DATA).iterdir():
                if f"{DATA}/{path.name}" not in used:
                    path.unlink()

    @contextmanager
    def _written(self, key: str) -> Iterator[None]:
        """Turn tensorstore's errors, and the system's, into one line."""
        try:
            yield
        except OSError as error:
            raise unwritable(error, error.filename or self.folder, key) from error
        except ValueError as error:
            raise store_error(error, str(self.folder), key, verb="written") from None


def _values(records: Mapping[str, Record]) -> Iterator[Entry]:
    """All keys in order, each with its value: bytes, or where it lies.

    The keys of arrays follow one another, except where the name of one is a folder of another's.
    """
    names = sorted(records, key=lambda name: key_of(name, "").encode())
    family: list[Entry] = []
    prefix = None
    for name in names:
        own = key_of(name, "")
        if prefix is None or not own.startswith(prefix):
            yield from sorted(family, key=lambda entry: entry[0])
            family, prefix = [], own
        zarray = records[name].layout.zarray
        family.append((key_of(name, zarray.name).encode(), _metadata(zarray)))
        for part, chunk in zip(zarray.chunk_names(), records[name].chunks(), strict=True):
            family.append((key_of(name, part).encode(), chunk))
    yield from sorted(family, key=lambda entry: entry[0])


def _placed(values: Iterator[Entry], places: SharedPlaces) -> Iterator[Entry]:
    """The entries, with places for the values that lie in shared files."""
    for key, value in values:
        if isinstance(value, bytes) and len(value) > INLINE_BYTES:
            yield key, places.next(len(value))
        else:
            yield key, value


def _metadata(zarray: ZarrArray) -> bytes:
    """An array's metadata as tensorstore spells it."""
    return json.dumps(zarray.to_json(), sort_keys=True, separators=(",", ":")).encode()


def _check_name(folder: Path, name: str, array: ZarrArray) -> None:
    last = array.chunk_name([max(0, length - 1) for length in array.grid])
    if max(len(key_of(name, part).encode()) for part in (array.name, last)) > KEY_BYTES:
        problem = f"makes keys of over {KEY_BYTES} bytes, the longest of a database"
        raise ConvkitError(problem, path=folder, key=f"{name[:60]}…", remedy="rename the leaf, or write without OCDBT")
