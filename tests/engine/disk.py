"""Checkpoints on disk, of any format, and conversions between them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from convkit.checkpoint import Leaf, TensorSpec, WriteOptions
from convkit.checkpoint.tensors import carrier
from convkit.execute import convert
from convkit.files.config_file import write_config
from convkit.formats import get_format, open_checkpoint
from convkit.mapping import Mapping
from convkit.plan import Options, Plan, make_plan, open_source
from engine.memory import Arrays, contents


def write(
    path: Path,
    arrays: Arrays,
    config: dict[str, Any] | None = None,
    *,
    format: str = "safetensors",
    ties: dict[str, str] | None = None,
    shard_size: int | None = None,
) -> Path:
    """A checkpoint of these arrays and values, with its config beside it."""
    leaves = [
        Leaf(key, TensorSpec(array.shape, array.dtype.name), same_as=(ties or {}).get(key))
        if isinstance(array, np.ndarray)
        else Leaf(key, value=array)
        for key, array in arrays.items()
    ]
    writer = get_format(format).create(path, leaves, WriteOptions(shard_size=shard_size))
    for leaf in leaves:
        if leaf.spec and not leaf.same_as:
            writer.write(leaf.key, 0, arrays[leaf.key].reshape(-1).view(carrier(leaf.spec.dtype)))
            writer.finish(leaf.key)
    writer.commit()
    writer.close()
    if config is not None:
        write_config(path / "config.json" if path.is_dir() else path.with_suffix(".yaml"), config)
    return path


def read(path: Path) -> Arrays:
    """All that a checkpoint on disk holds."""
    with open_checkpoint(path) as checkpoint:
        return {
            key: array.copy() if isinstance(array, np.ndarray) else array for key, array in contents(checkpoint).items()
        }


def planned(source: Path, mapping: Mapping, **options: Any) -> Plan:
    """The plan for a checkpoint on disk."""
    with open_source(source) as opened:
        return make_plan(opened, mapping, options=Options(**options))


def converted(source: Path, target: Path, mapping: Any, asked: dict[str, Any] | None = None, **how: Any) -> Any:
    """Convert on disk as a plan's options ask; gives the receipt."""
    with open_source(source) as opened:
        return convert(opened, make_plan(opened, mapping, options=Options(**(asked or {}))), target, **how)


def everything_below(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, except the lines of receipts that depend on time and chance."""
    return {
        str(path.relative_to(folder)): b"" if path.name.endswith(".convkit.json") else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
