"""Readers for zarr folders and T5X's msgpack that don't use convkit, for comparison.

:func:`restore_t5x` takes the steps of t5x ``load_t5x_checkpoint``; flax's own reader serves where it is installed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import tensorstore

from convkit.checkpoint import Checkpoint


def read_zarr(folder: Path) -> np.ndarray:
    """One array, by tensorstore alone."""
    spec = {"driver": "zarr", "kvstore": {"driver": "file", "path": str(folder)}}
    return tensorstore.open(spec, open=True).result().read().result()


def read_zarrs(folder: Path) -> dict[str, np.ndarray]:
    """All arrays in a folder."""
    return {path.parent.name: read_zarr(path.parent) for path in folder.glob("*/.zarray")}


def restore_msgpack(path: Path) -> Any:
    """flax's msgpack as a tree of arrays and values."""
    try:
        from flax.serialization import msgpack_restore
    except ImportError:
        return msgpack.unpackb(path.read_bytes(), ext_hook=_array, raw=False)
    return msgpack_restore(path.read_bytes())


def restore_t5x(folder: Path) -> dict[str, Any]:
    """Leaves as T5X loads them: each spec opened without its chunks and compressor, under the folder's path."""
    tree = restore_msgpack(folder / "checkpoint")
    assert set(tree) == {"version", "optimizer"}
    assert tree["version"] == 3
    return dict(_loaded(tree["optimizer"], (), folder))


def assert_holds(checkpoint: Checkpoint, expected: dict[str, Any]) -> None:
    """The checkpoint has these leaves and no other, bit by bit."""
    assert set(checkpoint.leaves) == set(expected)
    for key, value in expected.items():
        leaf = checkpoint.leaves[key]
        if not isinstance(value, np.ndarray | np.generic):
            assert leaf.spec is None, key
            assert leaf.value == value, key
            continue
        array = np.asarray(value)
        assert leaf.spec is not None, key
        assert (leaf.spec.shape, leaf.spec.dtype) == (array.shape, array.dtype.name), key
        assert checkpoint.read(key).tobytes() == array.tobytes(), key


def _loaded(node: Any, where: tuple[str, ...], folder: Path) -> Any:
    if isinstance(node, dict) and set(node) >= {"driver", "kvstore", "metadata"}:
        node["kvstore"]["path"] = str(folder / node["kvstore"]["path"])
        del node["metadata"]["chunks"], node["metadata"]["compressor"]
        yield ".".join(where), tensorstore.open(node, open=True).result().read().result()
    elif isinstance(node, dict) and node:
        for name, child in node.items():
            yield from _loaded(child, (*where, name), folder)
    else:
        yield ".".join(where), node


def _array(code: int, data: bytes) -> np.ndarray:
    assert code in (1, 3)
    shape, dtype, buffer = msgpack.unpackb(data, raw=False)
    import ml_dtypes

    return np.frombuffer(buffer, getattr(ml_dtypes, dtype, None) or np.dtype(dtype)).reshape(shape)
