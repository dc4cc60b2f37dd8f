"""Where the arrays of a pytree item lie: in its database, or in a folder each, as ``.zarray`` or ``zarr.json`` says.

An empty folder with an array's name says nothing: 0.2.3 to 0.4.4 made such for arrays of the database.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from convkit.errors import ConvkitError
from convkit.formats.arrays import folders as leaf_folders
from convkit.formats.arrays import ocdbt
from convkit.formats.arrays.store import StoredArray

REFETCH = "fetch the checkpoint again"


def find_arrays(folder: Path, names: Iterable[str], *, complete: bool = False) -> dict[str, StoredArray]:
    """The arrays of these storage names.

    Args:
        complete: whether all chunks must be there, also those of zeros: so it is since 0.10.3.

    Raises:
        ConvkitError: one is missing, damaged, or called so that it would lie outside; the database is.
    """
    wanted = dict.fromkeys(names)
    stored = _of_database(folder, complete) if wanted else {}
    found = {}
    for name in wanted:
        array = stored.get(name) or _of_folder(folder, name, complete)
        if array is None:
            raise ConvkitError("its array is missing", path=folder, key=name, remedy=REFETCH)
        found[name] = array
    return found


def is_outside(name: str) -> bool:
    """Whether a folder of that name would lie outside of the folder that it is to lie in."""
    place = PurePosixPath(name)
    return place.is_absolute() or ".." in place.parts


def _of_database(folder: Path, complete: bool) -> Mapping[str, StoredArray]:
    if ocdbt.is_unmerged(folder):
        return ocdbt.read_unmerged(folder, complete=complete)
    return ocdbt.read_arrays(folder, complete=complete) if ocdbt.is_database(folder) else {}


def _of_folder(folder: Path, name: str, complete: bool) -> StoredArray | None:
    if is_outside(name):
        raise ConvkitError("leads out of the checkpoint", path=folder, key=name, remedy="don't trust this checkpoint")
    if any((folder / name / described).is_file() for described in leaf_folders.METADATA):
        return leaf_folders.read_leaf(folder / name, complete=complete)
    return None
