"""Decide whether an item's stored data can stay unchanged, so that both APIs of today's Orbax read it.

They don't read everything that older releases wrote: leaves within the file ``checkpoint`` (until 0.5.22),
texts in separate folders (0.3.5), databases that were never merged (0.4.4) or are nested (0.4.1), and
arrays of zarr 3 whose chunks of zeros were not stored (until 0.9.1), which the v1 API misses.
"""

from __future__ import annotations

from pathlib import Path

from convkit.errors import ConvkitError
from convkit.formats.arrays import ocdbt
from convkit.formats.arrays.reader import FolderArray
from convkit.formats.arrays.store import StoredArray
from convkit.formats.arrays.whole_chunks import stored_chunks
from convkit.formats.arrays.zarr3 import Zarr3Array
from convkit.formats.orbax.pytree import Pytree
from convkit.formats.orbax.safetensors import tensor_files
from convkit.state.flax_msgpack import ArrayBytes
from convkit.state.orbax import handlers, texts
from convkit.state.orbax.layout import AGGREGATE, Item

#: the field of ``_METADATA`` that says that every chunk is stored
_ALL_STORED = "store_array_data_equal_to_fill_value"


def rewrite_reason(item: Item, pytree: Pytree) -> str | None:
    """Say why an item must be rewritten to be a pytree; None if new metadata is enough."""
    folder = item.path
    if item.kind != handlers.PYTREE:
        lone = [node.path for node in pytree.tree.nodes] == [()]
        named = lone and not isinstance(pytree.arrays[""], FolderArray)
        return "its array lies in a database, under a name of its own" if named else None
    if any(isinstance(array, ArrayBytes) for array in pytree.arrays.values()):
        return "leaves lie in safetensors" if tensor_files(folder) else f"leaves lie in the file {AGGREGATE}"
    stored_texts = texts.read(folder)
    if any(texts.find(stored_texts, name) is None for name in pytree.texts):
        return "texts lie in the folders of leaves"
    if ocdbt.is_unmerged(folder):
        return "the databases of its processes were never joined"
    stored = {name: array for name, array in pytree.arrays.items() if isinstance(array, StoredArray)}
    if any(isinstance(array, ocdbt.DatabaseArray) and array.folder != folder for array in stored.values()):
        return "arrays lie in databases of their own"
    if len({array.zarray.driver for array in stored.values()}) > 1:
        return "its arrays are of two versions of zarr"
    if not pytree.tree.rest.get(_ALL_STORED) and _lacks_chunks(folder, stored):
        return "chunks of zeros aren't stored, which the v1 API misses"
    return None


def _lacks_chunks(folder: Path, stored: dict[str, StoredArray]) -> bool:
    """Whether a chunk of a zarr 3 array is missing."""
    arrays = {name: array for name, array in stored.items() if isinstance(array.zarray, Zarr3Array)}
    try:
        for name, array in arrays.items():
            if isinstance(array, FolderArray):
                stored_chunks(array.folder, array.zarray, name, complete=True)
        if any(isinstance(array, ocdbt.DatabaseArray) for array in arrays.values()):
            ocdbt.read_arrays(folder, complete=True)
    except ConvkitError:
        return True
    return False
