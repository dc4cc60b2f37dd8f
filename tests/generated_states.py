"""Training states drawn by hypothesis: every container, every kind of leaf, ties, and any name."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from convkit.checkpoint import Leaf, TensorSpec, WriteOptions
from convkit.formats.cerebras_h5.format import FORMAT
from convkit.formats.cerebras_h5.records import RTFX_DTYPES
from convkit.state.cerebras import treespec
from convkit.state.cerebras.treespec import Tree
from convkit.testing import bits


@dataclass(frozen=True)
class State:
    """A structure, its leaves in order, and the elements of its tensors."""

    tree: Tree
    leaves: tuple[Leaf, ...]
    data: dict[str, np.ndarray]

    def write(self, path: Path) -> Path:
        """As a ``.mdl`` file of format 0.5."""
        writer = FORMAT.create(path, self.leaves, WriteOptions(metadata={"spec": treespec.dumps(self.tree)}))
        for key, elements in self.data.items():
            writer.write(key, 0, elements)
            writer.finish(key)
        writer.commit()
        writer.close()
        return path


@dataclass(frozen=True)
class _Tensor:
    spec: TensorSpec
    seed: int


class _Tie:
    """The last tensor once more."""


def states() -> st.SearchStrategy[State]:
    """States that the format can hold: no two leaves of one name, no tensor named after a folder of another."""
    shapes = st.sampled_from([(), (0,), (1,), (3, 2), (2, 1, 5)])
    tensors = st.builds(_Tensor, st.builds(TensorSpec, shapes, st.sampled_from(sorted(RTFX_DTYPES))), st.integers(0, 9))
    numbers = st.booleans() | st.integers(-(2**80), 2**80) | st.floats()
    text = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
    leaf = st.none() | numbers | text | tensors | st.just(_Tie())

    def containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        dicts = st.lists(st.tuples(_keys(), inner), max_size=3, unique_by=lambda item: str(item[0])).map(dict)
        lists = st.lists(inner, max_size=3)
        return dicts | dicts.map(OrderedDict) | lists | lists.map(tuple)

    nested = st.recursive(leaf, containers, max_leaves=10)
    return st.dictionaries(_keys(), nested, max_size=4).map(_state).filter(_is_holdable)


def _keys() -> st.SearchStrategy[str | int]:
    """Any text without NUL, "/" within it; a part "." would be HDF5's own."""
    part = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0/"), min_size=1, max_size=4)
    return st.lists(part.filter(lambda text: text != "."), min_size=1, max_size=2).map("/".join) | st.integers(-1, 20)


def _state(nested: Any) -> State:
    tensors: list[tuple[Leaf, int]] = []
    leaves = tuple(_leaves(nested, (), tensors))
    return State(_tree(nested), leaves, {leaf.key: bits(leaf.spec, seed) for leaf, seed in tensors if leaf.spec})


def _leaves(node: Any, path: tuple[str, ...], tensors: list[tuple[Leaf, int]]) -> Iterator[Leaf]:
    """In order, by name; the tensors with their seeds are noted, so that a tie finds the last one."""
    key = ".".join(path)
    if isinstance(node, dict | list | tuple) and (node or not path):
        for name, inner in node.items() if isinstance(node, dict) else enumerate(node):
            yield from _leaves(inner, (*path, str(name)), tensors)
    elif isinstance(node, _Tensor):
        tensors.append((Leaf(key, node.spec), node.seed))
        yield tensors[-1][0]
    elif isinstance(node, _Tie):
        owner = tensors[-1][0] if tensors else None
        yield Leaf(key, owner.spec, same_as=owner.key) if owner else Leaf(key)
    else:
        empty = {} if isinstance(node, dict) else []
        yield Leaf(key, value=empty if isinstance(node, dict | tuple) else node)


def _tree(node: Any) -> Tree:
    if isinstance(node, dict):
        kind = "collections.OrderedDict" if isinstance(node, OrderedDict) else "builtins.dict"
        return Tree(kind, json.dumps(list(node)), tuple(map(_tree, node.values())))
    if isinstance(node, list | tuple):
        return Tree(f"builtins.{type(node).__name__}", "null", tuple(map(_tree, node)))
    return treespec.LEAF


def _is_holdable(state: State) -> bool:
    names = [leaf.key for leaf in state.leaves]
    folders = {str(folder) for key in state.data for folder in Path(key).parents}
    return len({*names}) == len(names) and not folders & state.data.keys()
