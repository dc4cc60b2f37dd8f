"""What the real Orbax restores, described so that two trees can be compared: structure, kinds, bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np


def described(tree: Any) -> dict[str, tuple[Any, ...]]:
    """Each leaf and each node without leaves by its path: its type, dtype, shape, sharding and bits."""
    leaves = jax.tree_util.tree_flatten_with_path(tree, is_leaf=_is_empty)[0]
    return {jax.tree_util.keystr(path): _leaf(leaf) for path, leaf in leaves}


def _is_empty(node: Any) -> bool:
    return node is None or (isinstance(node, dict | list | tuple) and not node)


def _leaf(leaf: Any) -> tuple[Any, ...]:
    if isinstance(leaf, jax.Array):
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return ("key", str(jax.random.key_impl(leaf)), *_leaf(jax.random.key_data(leaf)))
        data = np.asarray(leaf)
        return ("jax", str(data.dtype), data.shape, str(leaf.sharding), data.tobytes())
    if isinstance(leaf, np.ndarray):
        return ("numpy", str(leaf.dtype), leaf.shape, leaf.tobytes())
    return (type(leaf).__name__, repr(leaf))


def by_v0(folder: Path) -> Any:
    """The tree of an item, or of a checkpoint without items."""
    import orbax.checkpoint as ocp

    with ocp.PyTreeCheckpointer() as checkpointer:
        return checkpointer.restore(folder)


def by_v1(path: Path, item: str | None = None) -> Any:
    """The tree of an item; of a v0 checkpoint without items, the only one."""
    import orbax.checkpoint.experimental.v1 as ocp

    return ocp.load(path, checkpointable_name=item)
