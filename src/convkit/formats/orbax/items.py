"""Reads Orbax items that are an array or a random key, as trees, and the texts of small items.

=============  ===============================================================================================
array ``checkpoint``, stored as a leaf of this name: a tree of one leaf
random key     ``jax_random_key``, an array item, and ``jax_random_key_metadata/metadata``: ``{"typed": true}``;
               ``np_random_key``, a pytree, and its metadata: ``{"legacy": true}``
others         one file of text
=============  ===============================================================================================

Source: orbax-checkpoint 0.12.8, ``_src/handlers/array_checkpoint_handler.py`` and ``random_key_checkpoint_handler.py``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from convkit.errors import ConvkitError
from convkit.formats.arrays import ocdbt
from convkit.formats.orbax.pytree import Pytree, describing, read_pytree
from convkit.formats.orbax.storage import REFETCH, find_arrays
from convkit.state.json_object import read_object
from convkit.state.orbax import arrays, handlers, tree
from convkit.state.orbax.layout import AGGREGATE, Item
from convkit.state.orbax.tree import Tree

#: an array's name in its item, the same as that of the file of aggregated leaves
ARRAY_NAME = AGGREGATE
#: suffix of the folder with a random key's metadata, after the key's name; and the field that marks jax's keys
_METADATA, _TYPED = "_metadata", "typed"
#: number of words in a typed key's data -> the algorithm, which Orbax doesn't store
_ALGORITHMS = {(2,): "threefry2x32", (4,): "rbg"}


def true_kind(item: Item) -> str:
    """The item's kind; until 0.5.22 only the database distinguishes an array from a damaged pytree."""
    untold = item.kind == handlers.PYTREE and not any((item.path / name).is_file() for name in (tree.FILE, AGGREGATE))
    if untold and (item.path / ocdbt.MANIFEST).is_file() and set(ocdbt.read_arrays(item.path)) == {ARRAY_NAME}:
        return handlers.ARRAY
    return item.kind


def read_array(folder: Path, kind: str | None = None) -> Pytree:
    """An item's one array, under the storage name "". ``kind`` is its kind if the item doesn't say.

    Raises:
        ConvkitError: the array is missing or damaged.
    """
    stored = find_arrays(folder, [ARRAY_NAME])[ARRAY_NAME]
    sharding = arrays.read_shardings(folder).get(ARRAY_NAME)
    stored_tree = tree.read(folder)
    kinds = [node.value_type for node in stored_tree.nodes if node.name == ARRAY_NAME] if stored_tree else []
    kind = next(iter(kinds), kind or (tree.ARRAY if sharding else tree.NDARRAY))
    found = Tree(
        (tree.node((), kind),),
        stored_tree.use_ocdbt if stored_tree else None,
        stored_tree.use_zarr3 if stored_tree else None,
    )
    return Pytree(found, {"": stored}, shardings={"": sharding} if sharding else {}, files=describing(folder))


def read_random_key(folder: Path) -> Pytree:
    """The data of a random key; a numpy key is a tree.

    Raises:
        ConvkitError: something is missing or damaged.
    """
    inner, metadata = _key_parts(folder)
    kind_fields = read_object(metadata)
    found = read_array(inner, tree.ARRAY) if _TYPED in kind_fields else read_pytree(inner)
    found = replace(found, files=(metadata, *found.files))
    if not kind_fields.get(_TYPED):
        return found
    words = found.specs[""].shape[-1:]
    if words not in _ALGORITHMS:
        raise ConvkitError(f"isn't the data of a random key: {found.specs['']}", path=inner, remedy=REFETCH)
    return replace(found, key_algorithms={"": _ALGORITHMS[words]})


def key_name(files: Iterable[str]) -> str:
    """The name of the folder with a random key's data, from the path of its metadata."""
    return next(Path(file).parts[0] for file in files).removesuffix(_METADATA)


def key_metadata(folder: Path) -> Path:
    """The file with a random key's kind.

    Raises:
        ConvkitError: the file is missing.
    """
    return _key_parts(folder)[1]


def _key_parts(folder: Path) -> tuple[Path, Path]:
    """The folder with a random key's data, and the file with its metadata."""
    for metadata in folder.glob(f"*{_METADATA}/metadata"):
        inner = folder / metadata.parent.name.removesuffix(_METADATA)
        if inner.is_dir():
            return inner, metadata
    raise ConvkitError("doesn't hold a random key", path=folder, remedy=REFETCH)
