"""Reads Orbax's file ``checkpoint`` and flax's own files: a tree's structure in msgpack, with some of its leaves.

Source: orbax-checkpoint until 0.5.22, ``aggregate_handlers.py`` and ``utils.py``: each leaf is an array, a number or a
text, or ``PLACEHOLDER://<storage name>`` if it is stored on its own. flax's ``save_checkpoint`` has no placeholders,
and turns lists and tuples into dicts by position.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convkit.checkpoint import TensorSpec
from convkit.errors import ConvkitError
from convkit.state import flax_msgpack
from convkit.state.flax_msgpack import ArrayBytes
from convkit.state.orbax import tree
from convkit.state.orbax.tree import DICT, SEQUENCE, Node

_PLACEHOLDER = "PLACEHOLDER://"
_EMPTY = {type(None): "None", dict: "Dict", list: "List"}


@dataclass(frozen=True, slots=True)
class Placeholder:
    """A leaf that is stored on its own, under this name."""

    name: str


@dataclass(frozen=True, slots=True)
class Entry:
    """A leaf or empty node: its kind, as far as the file says, and its contents in the file. ``held`` is None for an
    empty node. The file doesn't say a placeholder's kind; it is taken for a numpy array.
    """

    node: Node
    held: ArrayBytes | str | Placeholder | None


def read(path: Path) -> dict[tuple[str, ...], Entry]:
    """The leaves and empty nodes by path, in file order.

    Raises:
        ConvkitError: truncated, not flax's msgpack, or an int of more than 64 bits.
    """
    return {entry.node.path: entry for entry in _entries(flax_msgpack.load(path), (), path)}


def _entries(found: Any, where: tuple[tuple[str, int], ...], file: Path) -> Iterator[Entry]:
    if isinstance(found, dict) and found:
        for name, child in found.items():
            yield from _entries(child, (*where, (name, DICT)), file)
    elif isinstance(found, list) and found:
        for position, child in enumerate(found):
            yield from _entries(child, (*where, (str(position), SEQUENCE)), file)
    elif type(found) in _EMPTY:
        yield Entry(tree.node(where, _EMPTY[type(found)]), None)
    elif isinstance(found, str) and found.startswith(_PLACEHOLDER):
        yield Entry(tree.node(where, tree.NDARRAY), Placeholder(found.removeprefix(_PLACEHOLDER)))
    elif isinstance(found, str):
        yield Entry(tree.node(where, tree.STRING), found)
    elif isinstance(found, ArrayBytes):
        yield Entry(tree.node(where, tree.NDARRAY), found)
    else:
        yield Entry(tree.node(where, tree.SCALAR), _scalar(found, where, file))


def _scalar(value: float, where: tuple[tuple[str, int], ...], file: Path) -> ArrayBytes:
    """A number as Orbax stores it: an array without axes."""
    kinds = {bool: ("bool", "<?"), float: ("float64", "<d"), int: ("int64", "<q")}
    dtype, form = kinds[type(value)]
    if isinstance(value, int) and value > 2**63 - 1:
        dtype, form = "uint64", "<Q"
    try:
        return ArrayBytes(TensorSpec((), dtype), (struct.pack(form, value),))
    except struct.error:
        raise ConvkitError(
            "is an int of more than 64 bits", path=file, key=".".join(name for name, _ in where), remedy="report this"
        ) from None
