"""``_METADATA``: the tree of a pytree item, one entry per leaf or empty node.

Source: orbax-checkpoint 0.12.8 ``_src/metadata/tree.py`` and ``value_metadata``; releases since 0.3.4 write it::

    {"tree_metadata": {"('b', '0')": {"key_metadata": [{"key": "b", "key_type": 2}, {"key": "0", "key_type": 1}],
                                      "value_metadata": {"value_type": "jax.Array", "skip_deserialize": false,
                                                         "write_shape": [8]}}},
     "use_ocdbt": true, "use_zarr3": false, "store_array_data_equal_to_fill_value": true, "custom_metadata": null}

A leaf's storage name is its path joined with ".", which isn't injective: the two leaves of ``{"a.b": x, "a": {"b":
y}}`` share a name, and Orbax loses one of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from convkit.errors import ConvkitError
from convkit.state.json_object import read_object

FILE = "_METADATA"
#: kinds of path elements: a position in a list or tuple, or a key of a dict (or a field)
SEQUENCE, DICT = 1, 2
#: value types of leaves
ARRAY, NDARRAY, SCALAR, STRING = "jax.Array", "np.ndarray", "scalar", "string"
#: value types of nodes without leaves
EMPTY = ("None", "Dict", "List", "Tuple", "NamedTuple")

_TREE, _KEYS, _VALUE = "tree_metadata", "key_metadata", "value_metadata"
_OCDBT, _ZARR3, _CUSTOM = "use_ocdbt", "use_zarr3", "custom_metadata"
#: field: whether chunks of zeros are stored, too
STORES_ALL = "store_array_data_equal_to_fill_value"
#: field: classes of named tuples as JSON text, if the writer kept them
RICH = "value_metadata_tree"
#: convkit's field, ignored by Orbax: places of the leaves that convkit has as values and not as tensors
NUMBERS = "convkit_values"


@dataclass(frozen=True, slots=True)
class Node:
    """A leaf, or a node without leaves. ``kinds`` gives the kind of each element of ``path``, a position
    (:data:`SEQUENCE`) or a key (:data:`DICT`); ``value`` is the entry's ``value_metadata`` as in the file, unknown
    fields included.
    """

    path: tuple[str, ...]
    kinds: tuple[int, ...]
    value: Mapping[str, Any]

    @property
    def elements(self) -> tuple[tuple[str, int], ...]:
        """The path, each element with its kind."""
        return tuple(zip(self.path, self.kinds, strict=True))

    @property
    def name(self) -> str:
        """The storage name; "" for a tree that is one leaf."""
        return ".".join(self.path)

    @property
    def place(self) -> str:
        """The name of its array in storage: the storage name without a "/" at its end."""
        return self.name.removesuffix("/")

    @property
    def value_type(self) -> str:
        """One of :data:`ARRAY`, :data:`NDARRAY`, :data:`SCALAR`, :data:`STRING`, :data:`EMPTY`, or a newer one."""
        return str(self.value.get("value_type"))

    @property
    def empty(self) -> bool:
        """Whether it has no leaves, so nothing is stored for it."""
        return self.value_type in EMPTY

    @property
    def aggregated(self) -> bool:
        """Whether the leaf lies in the file ``checkpoint``, with the structure (releases 0.4.4 to 0.5.22)."""
        return bool(self.value.get("skip_deserialize")) and not self.empty

    @property
    def is_array(self) -> bool:
        """Whether an array is stored for it."""
        return not self.empty and self.value_type != STRING


def node(path: Iterable[tuple[str, int]], value_type: str, *, write_shape: Iterable[int] | None = None) -> Node:
    """A node as Orbax 0.12 writes it; ``path`` gives (element, kind)."""
    elements = tuple(path)
    value: dict[str, Any] = {"value_type": value_type, "skip_deserialize": value_type in EMPTY}
    if write_shape is not None:
        value["write_shape"] = list(write_shape)
    return Node(tuple(name for name, _ in elements), tuple(kind for _, kind in elements), value)


@dataclass(frozen=True)
class Tree:
    """The contents of a ``_METADATA`` file. ``use_ocdbt`` and ``use_zarr3`` are None if the file doesn't say (old
    releases); ``rest`` holds every other field unchanged, in the file's order.
    """

    nodes: tuple[Node, ...]
    use_ocdbt: bool | None = True
    use_zarr3: bool | None = False
    rest: Mapping[str, Any] = field(default_factory=lambda: {STORES_ALL: True, _CUSTOM: None})

    @property
    def stores_all(self) -> bool:
        """Whether chunks of zeros are stored, too (since 0.10.3)."""
        return bool(self.rest.get(STORES_ALL))

    @property
    def numbers(self) -> frozenset[str]:
        """Places of leaves that convkit has as Python numbers, and not as 0-d tensors."""
        return frozenset(self.rest.get(NUMBERS, ()))

    def to_json(self) -> dict[str, Any]:
        """The object of the file."""
        entries = {
            str(node.path): {
                _KEYS: [{"key": name, "key_type": kind} for name, kind in zip(node.path, node.kinds, strict=True)],
                _VALUE: dict(node.value),
            }
            for node in self.nodes
        }
        flags = {_OCDBT: self.use_ocdbt, _ZARR3: self.use_zarr3}
        return {_TREE: entries, **{name: flag for name, flag in flags.items() if flag is not None}, **self.rest}

    def dumps(self) -> bytes:
        """The text of the file."""
        return json.dumps(self.to_json()).encode()


def read(folder: Path, *, unique: bool = True) -> Tree | None:
    """The tree of an item; None if it has no ``_METADATA``. ``unique`` requires distinct storage names.

    Raises:
        ConvkitError: not what Orbax writes, or two arrays with one storage name.
    """
    path = folder / FILE
    return from_json(read_object(path), path, unique=unique) if path.is_file() else None


def from_json(found: Mapping[str, Any], path: Path, *, unique: bool = True) -> Tree:
    """The tree in a JSON object; ``path`` is the file to name in errors.

    Raises:
        ConvkitError: see :func:`read`.
    """
    rest = dict(found)
    entries = rest.pop(_TREE, None)
    if not isinstance(entries, dict):
        raise ConvkitError(f"has no {_TREE}", path=path, remedy="fetch the file again")
    nodes = tuple(_node(entry, path, key) for key, entry in entries.items())
    tree = Tree(nodes, rest.pop(_OCDBT, None), rest.pop(_ZARR3, None), rest)
    if unique:
        check_names(tree.nodes, path)
    return tree


def check_names(nodes: Iterable[Node], path: Path) -> None:
    """Check that all leaves have distinct storage names; ``path`` is the file to name in errors.

    Raises:
        ConvkitError: two leaves have the same name.
    """
    seen: dict[str, tuple[str, ...]] = {}
    for node in nodes:
        if node.empty:
            continue
        if node.place in seen:
            raise ConvkitError(
                f"is the storage name of two leaves, {seen[node.place]} and {node.path}: Orbax kept only one of them",
                path=path,
                key=node.name,
                remedy="save it again from the program, with keys that differ when joined with '.', a last '/' aside",
            )
        seen[node.place] = node.path


def _node(entry: Any, path: Path, key: str) -> Node:
    try:
        keys = [(part["key"], part["key_type"]) for part in entry[_KEYS]]
        value = entry[_VALUE]
        shape = value.get("write_shape") or []
        if (
            isinstance(shape, list)
            and all(type(n) is int for n in shape)
            and all(isinstance(name, str) for name, _ in keys)
        ):
            return Node(tuple(name for name, _ in keys), tuple(int(kind) for _, kind in keys), value)
    except (KeyError, TypeError, ValueError, AttributeError):
        pass
    raise ConvkitError("isn't an entry of a tree", path=path, key=key, remedy="fetch the file again")
