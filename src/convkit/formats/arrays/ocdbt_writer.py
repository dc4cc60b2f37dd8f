"""Writing arrays into one OCDBT database, from any thread and resumably.

Every commit to a database rewrites its tree and adds at least one file, so arrays don't share a database while they are
written. Each array has a folder of its own in ``.convkit-parts``. A large array is a database there: its tree stays in
the folder, its values go straight to the final ``d/``, in files whose names begin with the array's number. A small
array is plain chunk files. The commit links the large arrays into the final database without copying their bytes, and
copies the small ones into a few files. The settings are those of Orbax 0.12.8 (``tensorstore_utils``).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convkit.files.sync import sync_tree
from convkit.formats.arrays.folders import UNFINISHED, not_written, parse_metadata, remove
from convkit.formats.arrays.ocdbt import database, key_of
from convkit.formats.arrays.ocdbt_entries import MANIFEST, read_entries
from convkit.formats.arrays.store import StoredArray, file_store, give_back_blocks, store_error, writing_context
from convkit.formats.arrays.writer import StoredArrayWriter
from convkit.formats.arrays.zarr import ZarrArray
from convkit.formats.plain.io_errors import written_below

if TYPE_CHECKING:
    import numpy as np
    import tensorstore

#: an array of at most this many bytes is small: it gets no file of its own
SMALL = 4 << 20
#: bytes of small arrays that are merged at once
_BATCH = 64 << 20
_PARTS, _JOINED = ".convkit-parts", ".convkit-parts-joined"
_DATA = "d"
_CONFIG = {"max_inline_value_bytes": 1024, "max_decoded_node_bytes": 100_000_000, "manifest_kind": "single"}
_FILE_BYTES = 2 << 30


class OcdbtWriter(StoredArrayWriter):
    """Writes arrays into a folder's database, each under its name.

    Resuming needs no record: a finished array is complete in its part, an unfinished one is written again. The arrays
    must be the same, in the same order.

    Raises:
        ConvkitError: the folder can't be made.
    """

    def __init__(self, folder: Path, arrays: Mapping[str, ZarrArray]) -> None:
        self._numbers = {name: f"{number:06}" for number, name in enumerate(arrays)}
        self._small = {name for name, array in arrays.items() if array.spec.nbytes <= SMALL}
        self._top = folder.absolute()
        super().__init__(folder, {name: StoredArray(array, self._store(name)) for name, array in arrays.items()})
        self._lock = threading.Lock()
        self._context = writing_context()
        give_back_blocks(SMALL)
        with written_below(self.folder):
            if not (folder / MANIFEST).exists():
                (folder / _PARTS).mkdir(exist_ok=True)
            #: what an earlier process left of each array
            self._left: dict[str, list[Path]] = {}
            for path in (*(folder / _PARTS).glob("*"), *(folder / _DATA).glob("*-*")):
                self._left.setdefault(path.name.partition("-")[0], []).append(path)

    def write(self, key: str, start: int, data: np.ndarray) -> None:
        """Write whole chunks."""
        self._begin(key)
        super().write(key, start, data)

    def copy_leaf(self, key: str, files: Mapping[str, Path]) -> bool:
        """Copy the chunk files of an array that is stored with the same metadata."""
        import tensorstore

        array = self.arrays.get(key)
        if array is None or array.zarray.name not in files:
            return False
        if parse_metadata(files[array.zarray.name]) != array.zarray:
            return False
        self._begin(key)
        with self._written(key):
            store = tensorstore.KvStore.open(dict(array.kvstore), context=self._context).result()
            for name, file in files.items():
                store.write(name, file.read_bytes()).result()
        return True

    def commit(self) -> None:
        """Merge the arrays into one database, check that each is complete, and sync the folder."""
        with written_below(self.folder):
            if (self.folder / _PARTS).is_dir():
                if self.arrays:
                    self._join()
                (self.folder / _PARTS).rename(self.folder / _JOINED)
            remove(self.folder / _JOINED)
            sync_tree(self.folder)

    def _store(self, name: str) -> dict[str, Any]:
        """tensorstore's spec of the store that an array is written to."""
        part = f"{_PARTS}/{self._numbers[name]}"
        if name in self._small:
            return file_store(self._top / part)
        return {
            **database(self._top, key_of(name, "")),
            "manifest": file_store(self._top / part),
            "config": _CONFIG,
            "assume_config": True,
            "value_data_prefix": f"{_DATA}/{self._numbers[name]}-",
            "btree_node_data_prefix": f"{part}/",
            "version_tree_node_data_prefix": f"{part}/",
            "target_data_file_size": _FILE_BYTES,
        }

    def _begin(self, key: str) -> None:
        """Remove what an earlier process left of an array that it didn't finish."""
        with self._lock, written_below(self.folder):
            for path in self._left.pop(self._numbers.get(key, ""), ()):
                remove(path)
                path.unlink(missing_ok=True)

    def _join(self) -> None:
        """Make the database at the top, from scratch if an earlier process began it."""
        import tensorstore

        (self.folder / MANIFEST).unlink(missing_ok=True)
        for path in (self.folder / _DATA).glob("*"):
            if "-" not in path.name:
                path.unlink()
        spec = {**database(self._top), "config": _CONFIG, "assume_config": True, "target_data_file_size": _FILE_BYTES}
        with self._written():
            top = tensorstore.KvStore.open(spec, context=self._context).result()
            for names in self._batches():
                transaction = tensorstore.Transaction(atomic=True)
                for name in names:
                    self._take_over(name, top.with_transaction(transaction))
                transaction.commit_async().result()
        found = read_entries(self.folder)
        for name, array in self.arrays.items():
            parts = (array.zarray.name, *array.zarray.chunk_names())
            if not all(key_of(name, part) in found for part in parts):
                raise not_written(self.folder, name)

    def _batches(self) -> Iterator[list[str]]:
        """Arrays to merge together: all the large ones, then as many small ones as fit in memory."""
        yield [name for name in self.arrays if name not in self._small]
        batch: list[str] = []
        held = 0
        for name in (name for name in self.arrays if name in self._small):
            batch.append(name)
            held += self.arrays[name].zarray.spec.nbytes
            if held > _BATCH:
                yield batch
                batch, held = [], 0
        yield batch

    def _take_over(self, name: str, into: tensorstore.KvStore) -> None:
        """Put an array's entries into the database, by reference or by value."""
        import tensorstore

        part = self._top / _PARTS / self._numbers[name]
        if name in self._small:
            for file in sorted(part.rglob("*")):
                if file.is_file() and not file.name.endswith(UNFINISHED):
                    into[key_of(name, file.relative_to(part).as_posix())] = file.read_bytes()
        else:
            spec = {**database(self._top), "manifest": file_store(part)}
            tensorstore.KvStore.open(spec, context=self._context).result().experimental_copy_range_to(into).result()

    @contextmanager
    def _written(self, key: str | None = None) -> Iterator[None]:
        """Turn tensorstore's errors into one line."""
        try:
            yield
        except (ValueError, OSError) as error:
            raise store_error(error, str(self.folder), key, verb="written") from None
