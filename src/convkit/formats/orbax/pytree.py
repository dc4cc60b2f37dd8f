"""Reads an Orbax pytree item: its tree, and each of its leaves.

A leaf is looked up in the file ``checkpoint`` (:mod:`~convkit.formats.orbax.aggregate`), then among the texts, then
among the stored arrays (:mod:`~convkit.formats.orbax.storage`). Texts lie in ``_strings.json``; 0.3.5 wrote one such
file per leaf, in a folder of the leaf's name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from convkit.checkpoint import TensorSpec
from convkit.errors import ConvkitError
from convkit.formats.arrays import ocdbt
from convkit.formats.arrays.store import StoredArray
from convkit.formats.orbax import aggregate as orbax_aggregate
from convkit.formats.orbax.aggregate import Entry, Placeholder
from convkit.formats.orbax.storage import REFETCH, find_arrays, is_outside
from convkit.state.flax_msgpack import ArrayBytes
from convkit.state.orbax import arrays, texts, tree
from convkit.state.orbax.layout import AGGREGATE
from convkit.state.orbax.tree import Node, Tree


@dataclass(frozen=True)
class Pytree:
    """An item's contents by storage name. ``tree`` is the item's own, except that leaves in the file ``checkpoint`` are
    ordinary leaves. ``shardings`` and ``key_algorithms`` have entries only for arrays that have one; ``files`` are the
    files that describe the item.
    """

    tree: Tree
    arrays: Mapping[str, StoredArray | ArrayBytes]
    texts: Mapping[str, str] = field(default_factory=dict)
    shardings: Mapping[str, str] = field(default_factory=dict)
    key_algorithms: Mapping[str, str] = field(default_factory=dict)
    files: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()

    @cached_property
    def specs(self) -> dict[str, TensorSpec]:
        """The spec of each array."""
        return {name: a.spec if isinstance(a, ArrayBytes) else a.zarray.spec for name, a in self.arrays.items()}


def read_pytree(folder: Path) -> Pytree:
    """The pytree in a folder.

    Raises:
        ConvkitError: no file lists the leaves, or a leaf is missing or damaged.
    """
    file = folder / AGGREGATE
    held = orbax_aggregate.read(file) if file.is_file() else {}
    stored_tree = tree.read(folder)
    if stored_tree is None and not held:
        raise ConvkitError(
            f"{tree.FILE} is missing, and nothing else lists the leaves",
            path=folder,
            remedy=REFETCH,
        )
    found = stored_tree or Tree(tuple(entry.node for entry in held.values()), None, None)
    tree.check_names(found.nodes, file)
    return _resolved(folder, found, held)


def read_flax(file: Path) -> Pytree:
    """The tree in a flax file.

    Raises:
        ConvkitError: truncated, or not flax's msgpack.
    """
    held = orbax_aggregate.read(file)
    found = Tree(tuple(entry.node for entry in held.values()), None, None)
    tree.check_names(found.nodes, file)
    return _resolved(file, found, held)


def _resolved(folder: Path, found: Tree, held: Mapping[tuple[str, ...], Entry]) -> Pytree:
    stored_texts = texts.read(folder)
    held_texts: dict[str, str] = {}
    inline: dict[str, ArrayBytes] = {}
    stored: dict[str, str] = {}
    for node in found.nodes:
        if node.empty:
            continue
        entry = held[node.path].held if node.path in held else None
        name = entry.name if isinstance(entry, Placeholder) else node.name
        if isinstance(entry, ArrayBytes):
            inline[node.name] = entry
        elif isinstance(entry, str):
            held_texts[node.name] = entry
        elif node.aggregated and not isinstance(entry, Placeholder):
            raise ConvkitError(
                f"should be in the file {AGGREGATE}, and isn't",
                path=folder,
                key=node.name,
                remedy=REFETCH,
            )
        elif (text := _text(folder, name, stored_texts)) is not None:
            held_texts[node.name] = text
        elif node.value_type == tree.STRING:
            raise ConvkitError(f"its text is missing in {texts.FILE}", path=folder, key=node.name, remedy=REFETCH)
        else:
            stored[node.name] = name.removesuffix("/")
    by_place = find_arrays(folder, stored.values(), complete=found.stores_all)
    entries = arrays.read_array_metadatas(folder)
    algorithms = {name: arrays.key_algorithm(entry) for name, entry in entries.items()}
    return Pytree(
        replace(found, nodes=tuple(_as_leaf(node, held_texts) for node in found.nodes)),
        inline | {name: by_place[place] for name, place in stored.items()},
        held_texts,
        {name: text for name, text in arrays.read_shardings(folder).items() if text},
        {name: algorithm for name, algorithm in algorithms.items() if algorithm},
        describing(folder),
        ("the databases of its processes were never merged: they are read as one",)
        if ocdbt.is_unmerged(folder)
        else (),
    )


def describing(folder: Path) -> tuple[Path, ...]:
    """The files of an item that describe its leaves; for a flax file, the file itself."""
    if folder.is_file():
        return (folder,)
    named = (folder / name for name in (tree.FILE, AGGREGATE, arrays.SHARDING_FILE, texts.FILE))
    return tuple(
        file for file in (*named, *sorted((folder / arrays.ARRAYS_FOLDER).glob("process_*"))) if file.is_file()
    )


def _text(folder: Path, name: str, stored: Mapping[str, Any]) -> str | None:
    """The text of a leaf, if it has one: from the item's file, or from a file in a folder of the leaf's name."""
    text = texts.find(stored, name)
    if text is None and name and not is_outside(name):
        return texts.find(texts.read(folder / name), name)
    return text


def _as_leaf(node: Node, held: Mapping[str, str]) -> Node:
    """The node as it would be if the leaf weren't in the file ``checkpoint``, or its kind were known."""
    if node.empty:
        return node
    kind = tree.STRING if node.name in held else node.value_type
    return replace(node, value={**node.value, "value_type": kind, "skip_deserialize": False})
