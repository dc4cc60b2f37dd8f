"""What a loaded tree is like: dicts and lists, at their leaves the kind, dtype and shape of what is loaded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from convkit.state.flax_msgpack import ArrayBytes
from convkit.state.orbax.tree import DICT, NDARRAY, SEQUENCE, Node

#: in the aggregate file, a leaf that is stored as an array of its own
PLACEHOLDER = "PLACEHOLDER://"
#: what a node without leaves becomes
EMPTY: dict[str, Any] = {"None": None, "NamedTuple": None, "Dict": {}, "List": [], "Tuple": []}


def nested(leaves: Iterable[tuple[Node, Any]]) -> Any:
    """A tree of dicts and lists from its leaves."""
    top: dict[str, Any] = {}
    sequences: set[tuple[str, ...]] = set()
    for node, value in leaves:
        if not node.path:
            return value
        inner = top
        for depth, name in enumerate(node.path):
            if node.kinds[depth] == SEQUENCE:
                sequences.add(node.path[:depth])
            if depth == len(node.path) - 1:
                inner[name] = value
            else:
                inner = inner.setdefault(name, {})
    return _with_lists(top, (), sequences)


def _with_lists(value: Any, path: tuple[str, ...], sequences: set[tuple[str, ...]]) -> Any:
    if not isinstance(value, dict):
        return value
    inner = {name: _with_lists(part, (*path, name), sequences) for name, part in value.items()}
    return [inner[name] for name in sorted(inner, key=int)] if path in sequences else inner


def flat(value: Any, path: tuple[str, ...] = (), kinds: tuple[int, ...] = ()) -> Iterator[tuple[Node, Any]]:
    """Leaves and empty nodes of nested dicts and lists."""
    if value and isinstance(value, dict | list):
        kind, parts = (DICT, value.items()) if isinstance(value, dict) else (SEQUENCE, enumerate(value))
        for name, part in parts:
            yield from flat(part, (*path, str(name)), (*kinds, kind))
    else:
        yield Node(path, kinds, {"value_type": NDARRAY}), value


def is_placeholder(value: Any) -> bool:
    """Whether a leaf of the msgpack file is the place of one that lies elsewhere."""
    return isinstance(value, str) and value.startswith(PLACEHOLDER)


def inline_kind(value: Any) -> Any:
    """What a leaf of the msgpack file is loaded as."""
    if isinstance(value, ArrayBytes):
        return f"{NDARRAY} {value.spec.dtype}{list(value.spec.shape)}"
    return value if value is None or value in ({}, []) else type(value).__name__


def python_type(dtype: str) -> str:
    """The Python type of a stored scalar."""
    if dtype == "bool":
        return "bool"
    return "int" if "int" in dtype else "float"
