"""What an Orbax checkpoint says beside its leaves: enough to write the same checkpoint again.

It travels as JSON under :data:`KEY`, in the metadata of an opened checkpoint and in what a writer is told.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from convkit.state.orbax import handlers, layout, tree
from convkit.state.orbax.tree import Node, Tree

KEY = "orbax"
#: the JSON item in which a model's config lies
CONFIG_ITEM = "config"
#: what an empty node is to us
EMPTY_VALUES: dict[str, Any] = {"None": None, "Dict": {}, "NamedTuple": {}, "List": [], "Tuple": []}
#: kinds of items that have leaves
WITH_LEAVES = (handlers.PYTREE, handlers.ARRAY, handlers.RANDOM_KEY)


@dataclass(frozen=True)
class ArrayRecord:
    """What is known of an array: shape of its chunks, and of those that a shard of zarr 3 holds; see ``Pytree``."""

    chunks: tuple[int, ...] | None = None
    inner: tuple[int, ...] | None = None
    sharding: str | None = None
    key_algorithm: str | None = None

    def to_json(self) -> dict[str, Any]:
        """What is known, by name."""
        return {name: value for name in self.__dataclass_fields__ if (value := getattr(self, name)) is not None}

    @staticmethod
    def from_json(found: Mapping[str, Any]) -> ArrayRecord:
        """What :meth:`to_json` wrote, also when it has been through a file."""
        known: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in found.items()}
        return ArrayRecord(**known)


@dataclass(frozen=True)
class ItemRecord:
    """An item: its tree and what is known of the arrays by storage name, where it has leaves; its small files.

    ``files`` are the texts of a JSON, metrics or proto item, and the metadata of a random key, by path.
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
        """What :meth:`to_json` wrote."""
        return ItemRecord(
            found["kind"],
            found["handler"],
            tree.from_json(found["tree"], Path(tree.FILE)) if found["tree"] else None,
            {name: ArrayRecord.from_json(array) for name, array in found["arrays"].items()},
            dict(found["files"]),
        )


@dataclass(frozen=True)
class Record:
    """A checkpoint: a step, a direct one, or one item; ``step`` are the fields of ``_CHECKPOINT_METADATA``."""

    kind: str = layout.STEP
    items: Mapping[str, ItemRecord] = field(default_factory=dict)
    step: Mapping[str, Any] = field(default_factory=dict)

    def nodes(self) -> Iterator[tuple[str, str, Node]]:
        """Each leaf and empty node: its key, its item, and itself. The key names the item where several have leaves."""
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
        """What :meth:`to_json` wrote."""
        items = {name: ItemRecord.from_json(item) for name, item in found["items"].items()}
        return Record(found["kind"], items, found["step"])
