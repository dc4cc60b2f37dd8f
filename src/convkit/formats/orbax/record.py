"""The record of an Orbax checkpoint besides its leaves: enough to write the same checkpoint again.

It travels as JSON under :data:`KEY`, in the metadata of an opened checkpoint and in a writer's options.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from convkit.state.orbax import handlers, layout, tree
from convkit.state.orbax.tree import Node, Tree

KEY = "orbax"
#: the JSON item with a model's config
CONFIG_ITEM = "config"
#: an empty node's type -> its value
EMPTY_VALUES: dict[str, Any] = {"None": None, "Dict": {}, "NamedTuple": {}, "List": [], "Tuple": []}
#: the kinds of items that have leaves
WITH_LEAVES = (handlers.PYTREE, handlers.ARRAY, handlers.RANDOM_KEY)


@dataclass(frozen=True)
class ArrayRecord:
    """An array's storage: shapes of its chunks and of a shard's inner chunks; for the rest see ``Pytree``."""

    chunks: tuple[int, ...] | None = None
    inner: tuple[int, ...] | None = None
    sharding: str | None = None
    key_algorithm: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The fields that are set, by name."""
        return {name: value for name in self.__dataclass_fields__ if (value := getattr(self, name)) is not None}

    @staticmethod
    def from_json(found: Mapping[str, Any]) -> ArrayRecord:
        """The inverse of :meth:`to_json`, also after a trip through a file."""
        known: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in found.items()}
        return ArrayRecord(**known)


@dataclass(frozen=True)
class ItemRecord:
    """An item: its tree and its arrays by storage name, if it has leaves; and its small files. ``files`` are the texts
    of a JSON, metrics or proto item, or the metadata of a random key, by path.
    """

    kind: str
    handler: str | None = None
    tree: Tree | None = None
    arrays: Mapping[str, ArrayRecord] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {
            "kind": self.kind,
            "handler": self.handler,
            "tree": self.tree.to_json() if self.tree else None,
            "arrays": {name: known for name, array in self.arrays.items() if (known := array.to_json())},
            "files": dict(self.files),
        }

    @staticmethod
    def from_json(found: Mapping[str, Any]) -> ItemRecord:
        """The inverse of :meth:`to_json`."""
        return ItemRecord(
            found["kind"],
            found["handler"],
            tree.from_json(found["tree"], Path(tree.FILE)) if found["tree"] else None,
            {name: ArrayRecord.from_json(array) for name, array in found["arrays"].items()},
            dict(found["files"]),
        )


@dataclass(frozen=True)
class Record:
    """A checkpoint: a step, one without items, or one item; ``step`` has the fields of ``_CHECKPOINT_METADATA``."""

    kind: str = layout.STEP
    items: Mapping[str, ItemRecord] = field(default_factory=dict)
    step: Mapping[str, Any] = field(default_factory=dict)

    def nodes(self) -> Iterator[tuple[str, str, Node]]:
        """Each leaf and empty node, as key, item and node. The key names the item if several have leaves."""
        several = len([item for item in self.items.values() if item.tree]) > 1
        for name, item in self.items.items():
            for node in item.tree.nodes if item.tree else ():
                inner = f"{name}/{node.name}" if node.path else name
                yield (inner if several else node.name), name, node

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {
            "kind": self.kind,
            "items": {name: item.to_json() for name, item in self.items.items()},
            "step": dict(self.step),
        }

    @staticmethod
    def from_json(found: Mapping[str, Any]) -> Record:
        """The inverse of :meth:`to_json`."""
        items = {name: ItemRecord.from_json(item) for name, item in found["items"].items()}
        return Record(found["kind"], items, found["step"])
