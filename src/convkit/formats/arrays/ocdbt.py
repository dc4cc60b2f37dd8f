"""Reading arrays from an OCDBT database, tensorstore's key-value store in a few large files, as Orbax writes it.

Each zarr array is a group of keys, ``<name>/.zarray`` or ``<name>/zarr.json`` and ``<name>/<chunk>``
(orbax-checkpoint ``type_handlers``, tensorstore 0.1.86 driver ``ocdbt``). During a save each process writes a database
of its own, ``ocdbt.process_<i>``; when the save is complete they are merged into one at the top. Orbax 0.4.4 left them
unmerged if one handler asked for OCDBT and another didn't; 0.4.1 put an array ``a/b`` into a separate database in the
folder ``a``.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

from convkit.checkpoint.tensors import check_unstored
from convkit.errors import ConvkitError
from convkit.formats.arrays import zarr2, zarr3
from convkit.formats.arrays.ocdbt_entries import MANIFEST, read_entries
from convkit.formats.arrays.store import StoredArray, file_store
from convkit.formats.arrays.zarr import ZarrArray

_PROCESSES = "ocdbt.process_"
#: names of data files, in the folder ``d``
_DATA_FILE = re.compile("[0-9a-f]{32}")
_PARSERS = {zarr2.NAME: zarr2.parse, zarr3.NAME: zarr3.parse}


@dataclass(frozen=True, slots=True)
class DatabaseArray(StoredArray):
    """An array in a database, with the files of its chunks and all files of the database.

    Small chunks lie in the database's tree, so their file isn't listed in ``files``.
    """

    folder: Path
    files: tuple[Path, ...]
    database_files: tuple[Path, ...]

    @property
    def place(self) -> str:
        """The database's folder."""
        return str(self.folder)


def is_database(folder: Path) -> bool:
    """Whether the folder is a database, complete or not."""
    if (folder / MANIFEST).is_file() or any(folder.glob(f"{_PROCESSES}*")):
        return True
    data = folder / "d"
    return data.is_dir() and any(_DATA_FILE.fullmatch(file.name) for file in data.iterdir())


def is_unmerged(folder: Path) -> bool:
    """Whether the folder holds only per-process databases that were never merged into one at the top."""
    return bool(_processes(folder)) and not (folder / MANIFEST).exists() and not (folder / "d").exists()


def read_arrays(folder: Path, *, complete: bool = False) -> dict[str, DatabaseArray]:
    """All zarr arrays of the database and of the databases in folders below it, by name, sorted.

    Args:
        complete: require all chunks, even if the metadata has a fill value for absent ones.

    Raises:
        ConvkitError: no manifest, a damaged database, an array with missing chunks, or no array at all.
    """
    arrays = _arrays(folder, [folder], complete)
    for below in _nested(folder):
        name = below.relative_to(folder).as_posix()
        found = _arrays(below, [below], complete)
        arrays = {f"{name}/{key}" if key else name: array for key, array in found.items()} | arrays
    if not arrays:
        raise ConvkitError("the database holds no zarr array", path=folder, remedy="name a checkpoint of this format")
    return dict(sorted(arrays.items()))


def read_unmerged(folder: Path, *, complete: bool = False) -> dict[str, DatabaseArray]:
    """All zarr arrays of the per-process databases, read as one: a chunk may be in any of them.

    Raises:
        ConvkitError: as :func:`read_arrays`.
    """
    return _arrays(folder, _processes(folder), complete)


def database(folder: Path, path: str = "") -> dict[str, Any]:
    """tensorstore's spec of a database, or of the keys below a prefix."""
    return {"driver": "ocdbt", "base": file_store(folder), "path": path}


def key_of(name: str, part: str) -> str:
    """The key of an array's metadata or chunk; an array at the root has an empty name."""
    return f"{name}/{part}" if name else part


def _processes(folder: Path) -> list[Path]:
    return sorted(path.parent for path in folder.glob(f"{_PROCESSES}*/{MANIFEST}"))


def _nested(folder: Path) -> list[Path]:
    """Folders below that are databases, except per-process ones."""
    found = []
    for below in sorted(folder.iterdir()):
        if below.is_dir() and not below.name.startswith(_PROCESSES):
            found += [below] if (below / MANIFEST).is_file() else []
            found += _nested(below)
    return found


def _arrays(top: Path, databases: Sequence[Path], complete: bool) -> dict[str, DatabaseArray]:
    """The arrays of several databases read as one; the first database that has a key wins."""
    all_files: dict[Path, int] = {}
    stores = {folder: read_entries(folder, all_files) for folder in databases}
    where: dict[str, Path] = {}
    for folder, entries in stores.items():
        where |= {key: folder for key in entries if key not in where}
    arrays = {}
    keys = sorted(where)
    for key in keys:
        name, _, part = key.rpartition("/")
        if part not in _PARSERS:
            continue
        try:
            zarray = _PARSERS[part](stores[where[key]][key].value(), f"{top}/{key}")
        except OSError as error:
            raise ConvkitError(f"can't be read: {error}", path=top, key=name, remedy="fetch it again") from None
        may_lack = zarray.sparse and not complete
        homes = {}
        for chunk in _stored_names(keys, name, zarray) if may_lack else zarray.chunk_names():
            home = where.get(key_of(name, chunk))
            if home is None:
                raise ConvkitError(f"chunk {chunk} is missing", path=top, key=name, remedy="fetch the checkpoint again")
            homes[chunk] = home
        check_unstored(zarray.spec.nbytes, len(homes) * zarray.chunk_nbytes, top, name)
        held = [stores[home][key_of(name, chunk)].file for chunk, home in homes.items()]
        files = tuple(dict.fromkeys(file for file in held if file))
        store, whole = _kvstore(name, zarray, where[key], homes), len(homes) == zarray.chunk_count
        arrays[name] = DatabaseArray(zarray, store, top, files, tuple(all_files), whole=whole)
    return arrays


def _stored_names(keys: Sequence[str], name: str, zarray: ZarrArray) -> list[str]:
    """The chunks of an array that are among the sorted keys, in C order."""
    prefix = key_of(name, "")
    first = bisect_left(keys, prefix)
    below = takewhile(lambda key: key.startswith(prefix), islice(keys, first, None))
    there = (key.removeprefix(prefix) for key in below)
    return sorted(filter(zarray.is_chunk, there), key=lambda chunk: [int(n) for n in re.findall(r"\d+", chunk)])


def _kvstore(name: str, zarray: ZarrArray, home: Path, homes: Mapping[str, Path]) -> dict[str, Any]:
    """tensorstore's spec of an array's keys; chunks from other databases are layered over that of the metadata."""
    base = database(home, key_of(name, ""))
    elsewhere = {chunk: folder for chunk, folder in homes.items() if folder != home}
    if not elsewhere:
        return base
    layers = [{"base": database(folder, key_of(name, chunk)), "exact": chunk} for chunk, folder in elsewhere.items()]
    return {"driver": "kvstack", "layers": [{"base": base}, *layers]}
