"""Lays out the items of an Orbax checkpoint from its leaves and from the record of its source.

A leaf in the record keeps its item, path and kind. Any other leaf is placed by its key: the elements between "." are
keys of nested dicts in the item ``state`` (or in the record's only item, or in the item that the key names before "/"),
and a tensor becomes a numpy array.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from convkit.checkpoint import Leaf, TensorSpec, WriteOptions
from convkit.errors import ConvkitError
from convkit.formats.arrays import zarr2
from convkit.formats.arrays.ranges import chunk_shape
from convkit.formats.arrays.zarr import ZarrArray
from convkit.formats.arrays.zarr2_folders import asked_chunks
from convkit.formats.orbax.api import COMPRESSORS, Api, stored_as
from convkit.formats.orbax.items import ARRAY_NAME, key_name
from convkit.formats.orbax.record import CONFIG_ITEM, EMPTY_VALUES, ArrayRecord, ItemRecord, Record
from convkit.formats.orbax.storage import is_outside
from convkit.state.orbax import handlers, layout, texts, tree
from convkit.state.orbax.tree import DICT, Node, Tree

#: the item of leaves that belong to no other
STATE = "state"
#: bytes of the largest chunk that is kept from the source; larger ones are cut, so that memory is bounded
_LARGEST_CHUNK = 64 << 20
_EMPTY_TYPES: dict[type, str] = {type(None): "None", dict: "Dict", list: "List"}
_NUMBER_TYPES: dict[type, str] = {bool: "bool", int: "int64", float: "float64"}


@dataclass
class OutputItem:
    """An item to write: its place below the checkpoint, its handler, and its contents by storage name. ``names`` maps a
    leaf's key to its storage place, ``numbers`` are leaves that are Python numbers. ``files`` are small files, by path
    below the checkpoint. ``tree`` is None if the item has no leaves.
    """

    folder: str
    handler: str
    tree: Tree | None = None
    names: dict[str, str] = field(default_factory=dict)
    arrays: dict[str, ZarrArray] = field(default_factory=dict)
    records: dict[str, ArrayRecord] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    numbers: dict[str, bool | int | float] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)


def lay_out(
    path: Path, leaves: Sequence[Leaf], record: Record, options: WriteOptions, api: Api
) -> dict[str, OutputItem]:
    """The items by name; a checkpoint without items has one, named "".

    Raises:
        ConvkitError: a leaf that Orbax can't hold, or that lies below another leaf.
        UsageError: chunks that don't fit their leaf, or an unknown compressor.
    """
    plain = api.name == "v0" and record.kind == layout.DIRECT and options.config is None
    nodes = {key: (item, node) for key, item, node in record.nodes()}
    trees = [name for name, item in record.items.items() if item.tree]
    placed: dict[str, list[tuple[Leaf, Node]]] = {}
    for leaf in leaves:
        item, node = nodes.get(leaf.key) or _by_key(leaf.key, trees)
        placed.setdefault(item, []).append((leaf, _typed(path, leaf, node)))
    if not placed and not record.items:
        placed[STATE] = []
    items = {}
    for name in [*record.items, *(name for name in placed if name not in record.items)]:
        known = record.items.get(name) or ItemRecord(handlers.PYTREE)
        final = name or ("" if plain else STATE)
        if name in placed:
            items[final] = _with_leaves(path, final, placed[name], known, options=options, api=api)
        elif not known.tree:
            items[final] = _of_files(final, known, api)
    if options.config is not None:
        items[CONFIG_ITEM] = _config(path, options.config, record.items.get(CONFIG_ITEM), api)
    return items


def _config(path: Path, config: Mapping[str, Any], known: ItemRecord | None, api: Api) -> OutputItem:
    """The item with the model's config, unchanged if the record has the same config.

    Raises:
        ConvkitError: an item of this name holds something else.
    """
    if known and known.kind != handlers.JSON:
        raise ConvkitError(
            f"is an item of kind {known.kind}, so the model's config can't have this name",
            path=path,
            key=CONFIG_ITEM,
            remedy="rename the item",
        )
    if known and any(json.loads(text) == config for text in known.files.values()):
        return _of_files(CONFIG_ITEM, known, api)
    return _of_files(CONFIG_ITEM, ItemRecord(handlers.JSON, files={api.json_file: json.dumps(config)}), api)


def _by_key(key: str, trees: Sequence[str]) -> tuple[str, Node]:
    """The item and the node of a leaf that isn't in the record."""
    item, below, rest = key.partition("/")
    if len(trees) > 1 and below and item in trees:
        key = rest
    else:
        item = trees[0] if len(trees) == 1 else STATE
    return item, tree.node([(name, DICT) for name in key.split(".")] if key else [], tree.NDARRAY)


def _typed(path: Path, leaf: Leaf, node: Node) -> Node:
    """The node with the leaf's kind, unchanged if the leaf still fits it.

    Raises:
        ConvkitError: Orbax can't hold the leaf.
    """
    elements = list(zip(node.path, node.kinds, strict=True))
    kind = type(leaf.value)
    problem = ""
    if leaf.spec is not None:
        shape = node.value.get("write_shape") or []
        fits = len(shape) in (0, len(leaf.spec.shape)) and all(map(int.__le__, shape, leaf.spec.shape))
        if not leaf.spec.size:
            problem = f"is {leaf.spec.dtype}{list(leaf.spec.shape)}: Orbax can't hold arrays without elements"
        elif node.is_array and fits and not (node.value_type == tree.SCALAR and leaf.spec.shape):
            return node
        node = tree.node(elements, tree.ARRAY if node.value_type == tree.ARRAY else tree.NDARRAY)
    elif kind in _NUMBER_TYPES:
        if kind is int and not -(2**63) <= leaf.value < 2**63:
            problem = f"is {leaf.value}, which needs more than 64 bits"
        node = tree.node(elements, tree.SCALAR)
    elif kind is str:
        node = node if node.value_type == tree.STRING else tree.node(elements, tree.STRING)
    elif kind not in _EMPTY_TYPES or leaf.value:
        problem = "is a serialized object, which Orbax can't hold"
    elif not node.empty or EMPTY_VALUES[node.value_type] != leaf.value:
        node = tree.node(elements, _EMPTY_TYPES[kind])
    if problem:
        raise ConvkitError(problem, path=path, key=leaf.key, remedy="leave it out: --drop")
    return node


def _of_files(name: str, known: ItemRecord, api: Api) -> OutputItem:
    """An item without leaves."""
    kind = known.kind if known.kind in api.handlers else handlers.JSON
    files = {f"{name}/{api.json_file if kind == handlers.JSON else file}": text for file, text in known.files.items()}
    return OutputItem(name, _handler(known, kind, api), files=files)


def _with_leaves(
    path: Path, name: str, leaves: list[tuple[Leaf, Node]], known: ItemRecord, *, options: WriteOptions, api: Api
) -> OutputItem:
    """An item with leaves, each with a storage name of its own."""
    kind = known.kind if known.kind in api.handlers else handlers.PYTREE
    item = OutputItem(name, _handler(known, kind, api))
    if kind == handlers.RANDOM_KEY:
        item.folder = f"{name}/{key_name(known.files)}"
        item.files = {f"{name}/{file}": text for file, text in known.files.items()}
    lone = kind in (handlers.ARRAY, handlers.RANDOM_KEY) and [node.path for _, node in leaves] == [()]
    if lone:
        leaves = [(leaf, replace(node, path=(ARRAY_NAME,), kinds=(DICT,))) for leaf, node in leaves]
    _check_paths(path, leaves)
    zarr = 2 if lone else options.zarr or api.zarr
    compressor = COMPRESSORS[zarr] if options.compressor is None else zarr2.parse_compressor(options.compressor)
    for leaf, node in leaves:
        item.names[leaf.key] = node.place
        spec = leaf.spec
        if type(leaf.value) in _NUMBER_TYPES:
            item.numbers[node.place] = leaf.value
            spec = TensorSpec((), _NUMBER_TYPES[type(leaf.value)])
        elif type(leaf.value) is str:
            if not texts.is_name(node.name):
                raise ConvkitError("Orbax can't store text under '~'", path=path, key=leaf.key, remedy="rename it")
            item.texts[node.name] = leaf.value
        if spec is not None:
            array = known.arrays.get("" if lone else node.name, ArrayRecord())
            chunks, inner = _chunks(leaf.key, spec, array, options)
            if not (options.ocdbt or lone) and is_outside(node.place):
                raise ConvkitError("would lie outside of the checkpoint", path=path, key=leaf.key, remedy="rename it")
            item.arrays[node.place] = stored_as(spec, chunks, inner, zarr=zarr, compressor=compressor)
            item.records[node.place] = replace(array, key_algorithm=None) if lone else array
    nodes = [node for _, node in leaves]
    item.tree = _tree(nodes, known.tree, options.ocdbt and not lone, zarr == 3, item.numbers)
    return item


def _handler(known: ItemRecord, kind: str, api: Api) -> str:
    """The item's own handler if this API has it, else the API's handler for the kind."""
    own = known.handler if known.handler and known.kind == kind else None
    return own if own and handlers.is_v1(own) == (api.name == "v1") else api.handlers[kind]


def _check_paths(path: Path, leaves: Iterable[tuple[Leaf, Node]]) -> None:
    """Check that no leaf lies below another or has another's storage name.

    Raises:
        ConvkitError: a leaf does.
    """
    paths: dict[tuple[str, ...], str] = {}
    names: dict[str, str] = {}
    for leaf, node in leaves:
        other = names.get(node.place)
        if other is not None and not node.empty:
            raise ConvkitError(f"has the storage name of {other}", path=path, key=leaf.key, remedy="rename one of them")
        paths[node.path] = names[node.place] = leaf.key
    for where, key in paths.items():
        for above in _above(where):
            if above in paths:
                raise ConvkitError(
                    f"lies below {paths[above]!r}, which is a leaf too", path=path, key=key, remedy="rename one of them"
                )


def _above(where: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    return (where[:depth] for depth in range(len(where)))


def _chunks(
    key: str, spec: TensorSpec, known: ArrayRecord, options: WriteOptions
) -> tuple[tuple[int, ...], tuple[int, ...] | None]:
    """Shapes of a leaf's chunks and inner chunks: the user's choice, else the source's, if they fit."""
    asked = asked_chunks(key, spec, options)
    if asked is not None:
        return asked, None
    if known.chunks is None or len(known.chunks) != len(spec.shape):
        return chunk_shape(spec.shape, spec.itemsize, zarr2.CHUNK_BYTES), None
    if math.prod(known.chunks) * spec.itemsize > _LARGEST_CHUNK:
        return chunk_shape(known.chunks, spec.itemsize, zarr2.CHUNK_BYTES), None
    return known.chunks, known.inner


def _tree(nodes: list[Node], known: Tree | None, ocdbt: bool, zarr3: bool, numbers: Iterable[str]) -> Tree:
    """The tree, with the source tree's other fields."""
    fresh = Tree(tuple(nodes), ocdbt, zarr3)
    rest: dict[str, Any] = {**fresh.rest, **(known.rest if known else {}), tree.STORES_ALL: True}
    if known and {node.path for node in nodes} != {node.path for node in known.nodes}:
        rest.pop(tree.RICH, None)
    rest.pop(tree.NUMBERS, None)
    return replace(fresh, rest=rest | ({tree.NUMBERS: sorted(numbers)} if numbers else {}))
