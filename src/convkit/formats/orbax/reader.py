"""Opens everything that Orbax reads: a step, a checkpoint without items, one item, flax files, safetensors.

A leaf's key is its storage name: its path joined with ".". If several items have leaves it is ``<item>/<name>``, or
``<item>`` if the item is one leaf. Arrays and Python numbers are tensors; texts and empty nodes are values.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from convkit.checkpoint import Leaf, json_text
from convkit.checkpoint.tensors import value_dtype
from convkit.errors import ConvkitError
from convkit.formats.arrays.ocdbt import DatabaseArray
from convkit.formats.arrays.reader import ArrayCheckpoint
from convkit.formats.arrays.store import StoredArray
from convkit.formats.orbax.items import key_metadata, read_array, read_random_key, true_kind
from convkit.formats.orbax.pytree import Pytree, read_flax, read_pytree
from convkit.formats.orbax.record import CONFIG_ITEM, EMPTY_VALUES, KEY, WITH_LEAVES, ArrayRecord, ItemRecord, Record
from convkit.formats.orbax.safetensors import as_checkpoint, read_safetensors, tensor_files
from convkit.formats.orbax.storage import REFETCH
from convkit.state.flax_msgpack import ArrayBytes
from convkit.state.json_object import read_object
from convkit.state.orbax import handlers, layout, step
from convkit.state.orbax.layout import Found, Item

#: how many steps an error names
_SHOWN = 5


def open_orbax(path: Path, without: Container[str] = ()) -> ArrayCheckpoint:
    """Open a step, a checkpoint without items, an item, a flax file or safetensors; the items ``without`` aren't read.

    Its ``metadata`` holds the :class:`~convkit.formats.orbax.record.Record`, ``notes`` (what a user should know), and
    ``companions`` (files there that aren't converted).

    Raises:
        ConvkitError: a root, an unfinished save, not an Orbax checkpoint, or something missing or damaged.
    """
    found = layout.recognise(path)
    if found.kind == layout.ROOT:
        raise _root_error(found)
    if found.kind == layout.SAFETENSORS:
        found = as_checkpoint(found)
    found = replace(found, items={name: item for name, item in found.items.items() if name not in without})
    items = {name: replace(item, kind=true_kind(item)) for name, item in found.items.items()}
    trees = {name: read_leaves(item) for name, item in items.items() if item.kind in WITH_LEAVES}
    record = Record(
        found.kind,
        {name: _item(item, trees.get(name)) for name, item in items.items() if name in trees or item.file},
        found.metadata.fields if found.metadata else {},
    )
    leaves, arrays = _leaves(path, record, trees)
    checkpoint = ArrayCheckpoint(
        path,
        f"orbax-{found.api}",
        leaves=leaves,
        arrays=arrays,
        metadata={
            KEY: record.to_json(),
            "notes": [note for tree in trees.values() for note in tree.notes],
            "companions": [name for name, item in items.items() if name not in trees and not item.file],
        },
        files=list(dict.fromkeys(_files(found, trees.values(), arrays.values()))),
    )
    checkpoint.config = _config(found)
    _take_numbers(checkpoint, record)
    return checkpoint


def _root_error(found: Found) -> ConvkitError:
    names = [entry.name for entry in found.steps]
    shown = ", ".join(names[-_SHOWN:])
    return ConvkitError(
        f"is a root of {len(names)} steps{', the latest' if len(names) > _SHOWN else ''}: {shown}",
        path=found.path,
        remedy=f"name one of them, {found.path / names[-1]}, or take all with convkit orbax migrate",
    )


def read_leaves(item: Item) -> Pytree:
    """The contents of an item with leaves.

    Raises:
        ConvkitError: something is missing or damaged.
    """
    if item.kind == handlers.ARRAY:
        return read_array(item.path)
    if item.kind == handlers.RANDOM_KEY:
        return read_random_key(item.path)
    if not layout.is_pytree(item.path) and tensor_files(item.path):
        return read_safetensors(item.path)
    return read_flax(item.path) if item.path.is_file() else read_pytree(item.path)


def _item(item: Item, tree: Pytree | None) -> ItemRecord:
    """The record of an item."""
    file = key_metadata(item.path) if item.kind == handlers.RANDOM_KEY else item.file
    files = {file.relative_to(item.path).as_posix(): _text(file, item.kind)} if file else {}
    if tree is None:
        return ItemRecord(item.kind, item.handler, files=files)
    arrays = {name: _array(tree, name, array) for name, array in tree.arrays.items()}
    return ItemRecord(item.kind, item.handler, tree.tree, arrays, files)


def _text(file: Path, kind: str) -> str:
    """The text of a small file.

    Raises:
        ConvkitError: the file isn't text, or isn't JSON although it must be.
    """
    try:
        text = file.read_text(encoding="utf-8")
        if kind != handlers.PROTO:
            json_text.loads(text)
    except ValueError as error:
        raise ConvkitError(f"is not valid JSON: {error}", path=file, remedy=REFETCH) from None
    return text


def _array(tree: Pytree, name: str, array: StoredArray | ArrayBytes) -> ArrayRecord:
    chunks = inner = None
    if isinstance(array, StoredArray):
        chunks = array.zarray.chunks
        inner = array.zarray.decoded if array.zarray.decoded != chunks else None
    return ArrayRecord(chunks, inner, tree.shardings.get(name), tree.key_algorithms.get(name))


def _leaves(
    path: Path, record: Record, trees: dict[str, Pytree]
) -> tuple[dict[str, Leaf], dict[str, StoredArray | ArrayBytes]]:
    """All leaves by key, and the data of those that are tensors.

    Raises:
        ConvkitError: two leaves have the same key.
    """
    leaves: dict[str, Leaf] = {}
    arrays: dict[str, StoredArray | ArrayBytes] = {}
    for key, item, node in record.nodes():
        if key in leaves:
            raise ConvkitError(
                "is the name of a leaf and of an empty node", path=path, key=key, remedy="save it with other keys"
            )
        tree = trees[item]
        if node.empty:
            leaves[key] = Leaf(key, value=EMPTY_VALUES[node.value_type])
        elif node.name in tree.texts:
            leaves[key] = Leaf(key, value=tree.texts[node.name])
        else:
            arrays[key] = tree.arrays[node.name]
            leaves[key] = Leaf(key, tree.specs[node.name])
    return leaves, arrays


def _files(found: Found, trees: Iterable[Pytree], arrays: Iterable[StoredArray | ArrayBytes]) -> Iterator[Path]:
    """The files that describe or hold leaves, except those of arrays in folders, which the checkpoint knows."""
    if (file := found.path / step.FILE).is_file():
        yield file
    for item in found.items.values():
        if item.kind in (handlers.JSON, handlers.METRICS) and item.file:
            yield item.file
    for tree in trees:
        yield from tree.files
    for array in arrays:
        if isinstance(array, DatabaseArray):
            yield from array.database_files


def _take_numbers(checkpoint: ArrayCheckpoint, record: Record) -> None:
    """Turn arrays that convkit wrote for values back into values."""
    for key, item, node in record.nodes():
        stored_tree = record.items[item].tree
        if (
            stored_tree
            and node.place in stored_tree.numbers
            and (spec := checkpoint.leaves[key].spec)
            and not spec.shape
        ):
            number = checkpoint.read(key).view(value_dtype(spec.dtype)).item()
            checkpoint.leaves[key] = Leaf(key, value=number)


def _config(found: Found) -> dict[str, Any] | None:
    """The model's config, if an item holds it."""
    item = found.items.get(CONFIG_ITEM)
    return read_object(item.file) if item and item.kind == handlers.JSON and item.file else None
