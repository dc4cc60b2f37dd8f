"""Finds the arrays of a pytree item: in its database, or in a zarr folder each (``.zarray`` or ``zarr.json``).

An empty folder with an array's name is ignored: 0.2.3 to 0.4.4 made them for arrays in the database.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from convkit.checkpoint.threads import openers
from convkit.errors import ConvkitError
from convkit.formats.arrays import folders as leaf_folders
from convkit.formats.arrays import ocdbt
from convkit.formats.arrays.store import StoredArray

REFETCH = "fetch the checkpoint again"


def find_arrays(folder: Path, names: Iterable[str], *, complete: bool = False) -> dict[str, StoredArray]:
    """The arrays with these storage names.

    Args:
        complete: require all chunks, also those of zeros, which Orbax writes since 0.10.3.

    Raises:
        ConvkitError: an array is missing, damaged, or named so that it would lie outside; or the database is damaged.
    """
    wanted = dict.fromkeys(names)
    stored = _of_database(folder, complete) if wanted else {}
    with openers(folder) as pool:
        read = pool.map(lambda name: stored.get(name) or _of_folder(folder, name, complete), wanted)
        found = dict(zip(wanted, read, strict=True))
    for name, array in found.items():
        if array is None:
            raise ConvkitError("its array is missing", path=folder, key=name, remedy=REFETCH)
    return {name: array for name, array in found.items() if array is not None}


def is_outside(name: str) -> bool:
    """Whether a folder of this name would lie outside its parent."""
    place = PurePosixPath(name)
    return place.is_absolute() or ".." in place.parts


def _of_database(folder: Path, complete: bool) -> Mapping[str, StoredArray]:
    if ocdbt.is_unmerged(folder):
        return ocdbt.read_unmerged(folder, complete=complete)
    return ocdbt.read_arrays(folder, complete=complete) if ocdbt.is_database(folder) else {}


def _of_folder(folder: Path, name: str, complete: bool) -> StoredArray | None:
    if is_outside(name):
        raise ConvkitError("leads outside the checkpoint", path=folder, key=name, remedy="don't trust this checkpoint")
    if any((folder / name / described).is_file() for described in leaf_folders.METADATA):
        return leaf_folders.read_leaf(folder / name, complete=complete)
    return None
