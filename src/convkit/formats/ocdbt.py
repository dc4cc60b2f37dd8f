"""The arrays in an OCDBT database: tensorstore's key-value store of a few large files, as Orbax writes it.

``manifest.ocdbt`` is its root. Each zarr array is a group of keys, ``<name>/.zarray`` and ``<name>/<chunk>``
(orbax-checkpoint ``type_handlers``, tensorstore 0.1.86 driver ``ocdbt``). While it is saved, each process
has a database of its own, ``ocdbt.process_<i>``; one at the top joins them when the save is complete.
"""

from __future__ import annotations

from pathlib import Path

from convkit.errors import ConvkitError
from convkit.formats import zarr2
from convkit.formats.array_store import StoredArray, store_error

MANIFEST = "manifest.ocdbt"


def is_database(folder: Path) -> bool:
    """Whether the folder is a database, be it complete or not."""
    return (folder / MANIFEST).is_file() or any(folder.glob("ocdbt.process_*"))


def read_arrays(folder: Path) -> dict[str, StoredArray]:
    """All zarr arrays of the database by name, sorted.

    Raises:
        ConvkitError: no manifest, a damaged database, or an array without all its chunks.
    """
    import tensorstore

    if not (folder / MANIFEST).is_file():
        raise ConvkitError(
            f"{MANIFEST} is missing", path=folder, remedy="the save was interrupted, or the copy: fetch it again"
        )
    base = {"driver": "ocdbt", "base": {"driver": "file", "path": f"{folder.absolute()}/"}}
    arrays: dict[str, StoredArray] = {}
    try:
        store = tensorstore.KvStore.open(base).result()
        keys = {key.decode() for key in store.list().result()}
        names = sorted(key.removesuffix(f"/{zarr2.NAME}") for key in keys if key.endswith(f"/{zarr2.NAME}"))
        reads = [(name, store.read(f"{name}/{zarr2.NAME}")) for name in names]
        for name, read in reads:
            zarray = zarr2.parse(read.result().value, f"{folder}/{name}/{zarr2.NAME}")
            for chunk in zarray.chunk_names() if zarray.fill_value is None else ():
                if f"{name}/{chunk}" not in keys:
                    raise ConvkitError(
                        f"chunk {chunk} is missing", path=folder, key=name, remedy="fetch the checkpoint again"
                    )
            arrays[name] = StoredArray(zarray, {**base, "path": f"{name}/"})
    except (ValueError, OSError) as error:
        raise store_error(error, str(folder)) from None
    if not arrays:
        raise ConvkitError("the database holds no zarr array", path=folder, remedy="name a checkpoint of this format")
    return arrays
