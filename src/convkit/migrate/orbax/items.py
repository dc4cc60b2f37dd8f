"""Decide what each kind of item becomes in the other API, if its data stays unchanged.

===========  ==========================================  ==================================================
item         v0                                          v1
===========  ==========================================  ==================================================
pytree       unchanged                                   unchanged; shardings in today's spelling
JSON         ``metadata``                                ``data.json``
metrics      unchanged                                   unchanged
proto        unchanged                                   unchanged
array        ``checkpoint/`` holds the array             a pytree that is one leaf
random key   ``jax_random_key/checkpoint/`` holds it     a pytree that is one leaf, typed by its metadata
             ``np_random_key/`` is a pytree              that pytree
unknown      unchanged                                   unchanged
===========  ==========================================  ==================================================

Source: orbax-checkpoint 0.12.8, ``_src/handlers`` and ``experimental/v1/_src/handlers``; the v1 API has no
handler for arrays and random keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convkit.errors import ConvkitError
from convkit.formats.orbax.items import read_random_key
from convkit.formats.orbax.pytree import Pytree
from convkit.migrate.orbax.files import Files, below, listed
from convkit.state.json_object import read_object, read_value
from convkit.state.orbax import arrays, handlers, layout, step, tree
from convkit.state.orbax.layout import Item
from convkit.state.orbax.tree import Tree

#: the item name that a checkpoint without items gets
STATE = "state"
_JSON_FILE = {"v0": "metadata", "v1": "data.json"}
_JAX_KEY, _NUMPY_KEY = "jax_random_key", "np_random_key"


@dataclass(frozen=True)
class Target:
    """The API that must load the result; ``dual``: both."""

    api: str
    dual: bool = False

    @property
    def marked(self) -> bool:
        """Whether the checkpoint has v1's marker."""
        return self.dual or self.api == "v1"

    @property
    def handlers(self) -> Mapping[str, str]:
        """Handlers by kind of item; v1 also knows those of v0, but not the reverse."""
        return handlers.V0 if self.dual or self.api == "v0" else handlers.V1

    def kind(self, kind: str) -> str:
        """The kind that an item gets there: v1 has no handlers for arrays and random keys."""
        return handlers.PYTREE if self.marked and kind in (handlers.ARRAY, handlers.RANDOM_KEY) else kind

    @property
    def json_file(self) -> str:
        """The name of a JSON item's file; v1 also reads that of v0, but not the reverse."""
        return _JSON_FILE["v0" if self.dual else self.api]


def moved(item: Item, target: Target, pytree: Pytree | None) -> Files:
    """Make the item's files for the target's API, by path in its folder; ``pytree`` is its content if it has leaves.

    Raises:
        ConvkitError: it contradicts its kind, or is of JSON that can't be read.
    """
    if item.kind in (handlers.JSON, handlers.METRICS) and item.file:
        read_value(item.file, remedy="restore the file, or leave the item out: --drop " + item.name)
    if item.kind == handlers.PYTREE and pytree:
        return _pytree(item.path, pytree.tree)
    if item.kind == handlers.JSON:
        return _json(item, target)
    if not pytree or target.kind(item.kind) == item.kind:
        return listed(item.path)
    if item.kind == handlers.ARRAY:
        return _array(item.path, item.path)
    if (item.path / _NUMPY_KEY).is_dir():
        return below(_NUMPY_KEY, listed(item.path))
    return _array(item.path / _JAX_KEY, item.path, pytree.key_algorithms.get(""))


def notes_on(item: Item, kind: str) -> list[str]:
    """Notes for the user on an item that has that kind in the output."""
    if kind == handlers.UNKNOWN:
        return [f"item {item.name} is of an unknown kind: copied unchanged"]
    if item.kind == handlers.RANDOM_KEY and kind == handlers.PYTREE:
        if (item.path / _NUMPY_KEY).is_dir():
            return [
                f"item {item.name}: numpy's random state is a pytree there, which Orbax doesn't turn into a state again"
            ]
        if algorithm := read_random_key(item.path).key_algorithms.get(""):
            return [f"item {item.name}: its algorithm isn't recorded; {algorithm}, by its size"]
    return []


def _pytree(folder: Path, found: Tree) -> Files:
    """The item's files; its tree, if only the file ``checkpoint`` holds it; shardings in today's spelling."""
    files = listed(folder)
    if tree.FILE not in files:
        files[tree.FILE] = Tree(found.nodes, use_ocdbt=layout.MANIFEST in files, use_zarr3=False).dumps()
    if (shardings := _shardings(folder, found)) is not None:
        files[arrays.SHARDING_FILE] = shardings
    return files


def _shardings(folder: Path, found: Tree) -> bytes | None:
    """Write the file of shardings anew if today's Orbax couldn't load every ``jax.Array`` with it; else None.

    Before 0.4.1 there was none, 0.4.1 wrote plain names, and nothing for an array on one device.
    """
    names = [node.name for node in found.nodes if node.is_array and node.value_type == tree.ARRAY]
    path = folder / arrays.SHARDING_FILE
    stored = read_object(path) if path.is_file() else {}
    if all(stored.get(arrays.sharding_key(name)) for name in names):
        return None
    known = arrays.read_shardings(folder)
    return arrays.dump_shardings({name: known.get(name) or arrays.single_device() for name in names})


def _json(item: Item, target: Target) -> Files:
    """The item's file, under the name that the API looks for."""
    files = listed(item.path)
    if item.file is None:
        raise ConvkitError(
            f"holds neither of {', '.join(_JSON_FILE.values())}",
            path=item.path,
            remedy="rename its file to metadata, which Orbax calls it by default",
        )
    return {target.json_file if origin == item.file else name: origin for name, origin in files.items()}


def _array(folder: Path, item: Path, key_algorithm: str | None = None) -> Files:
    """Make a pytree that is one leaf, the array in ``folder``: its metadata is that of the leaf, without a name."""
    stored = _zarray(folder)
    found = tree.read(folder)
    if found is not None and found.nodes:
        value: Mapping[str, Any] = found.nodes[0].value
        rest = found.rest
    else:
        kind = tree.ARRAY if item != folder else tree.NDARRAY
        shape = stored["chunks"] if kind == tree.ARRAY else None
        value, rest = tree.node((), kind, write_shape=shape).value, Tree(()).rest
    files: Files = below(layout.AGGREGATE, listed(folder))
    files[tree.FILE] = Tree((tree.Node((), (), value),), use_ocdbt=False, use_zarr3=False, rest=rest).dumps()
    if value.get("value_type") == tree.ARRAY:
        text = next(iter(arrays.read_shardings(folder).values()), "") or arrays.single_device()
        files[arrays.SHARDING_FILE] = arrays.dump_shardings({"": text})
        shape, chunks = tuple(value.get("write_shape", stored["chunks"])), tuple(stored["chunks"])
        entry = arrays.array_metadata("", shape, chunks, key_algorithm)
        files[f"{arrays.ARRAYS_FOLDER}/process_0"] = arrays.dump_array_metadatas({"": entry})
    if (item / step.COMMIT).is_file():
        files[step.COMMIT] = item / step.COMMIT
    return files


def _zarray(folder: Path) -> dict[str, Any]:
    """Read the array's own metadata.

    Raises:
        ConvkitError: it is missing.
    """
    path = folder / layout.AGGREGATE / ".zarray"
    if not path.is_file():
        raise ConvkitError("is missing", path=path, remedy="fetch the checkpoint again")
    return read_object(path)
