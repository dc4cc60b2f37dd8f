"""Checkpoints of arrays in memory, and unregistered mappings, for tests without a disk."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from convkit.checkpoint import Checkpoint, Leaf, TensorSpec
from convkit.checkpoint.tensors import carrier, value_dtype
from convkit.config import ConfigTable, Field
from convkit.execute.chain import Converted, links_of
from convkit.execute.origins import Passing
from convkit.mapping import AnyRule, Layout, inverse
from convkit.mapping import Mapping as LayoutMapping
from convkit.plan import Options, Plan, Source, make_plan

Arrays = dict[str, Any]

LEFT = Layout("left/model", "the left side", "safetensors", "config.json", signature=({},))
RIGHT = Layout("right/model", "the right side", "safetensors", "config.json", signature=({},))


class Memory(Checkpoint):
    """Arrays as a checkpoint; anything that isn't an array is a value."""

    def __init__(self, arrays: Arrays, ties: Mapping[str, str] | None = None) -> None:
        self.path = Path("memory")
        self.format = "memory"
        self.metadata = {}
        self.arrays = {key: array for key, array in arrays.items() if isinstance(array, np.ndarray)}
        self.leaves = {
            key: Leaf(key, TensorSpec(array.shape, array.dtype.name), same_as=(ties or {}).get(key))
            if isinstance(array, np.ndarray)
            else Leaf(key, value=array)
            for key, array in arrays.items()
        }

    def read(self, key: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        return self._bits(key).reshape(-1)[start:stop]

    def files(self) -> list[Path]:
        return []

    def _bits(self, key: str) -> np.ndarray:
        return self.arrays[key].view(carrier(self.arrays[key].dtype.name))


class Told(Passing):
    """Keeps the elements of a leaf that is read whole."""

    def __init__(self) -> None:
        self.data: list[np.ndarray] = []
        self.finished = False

    def update(self, data: np.ndarray) -> None:
        assert not self.finished
        self.data.append(data.copy().reshape(-1))

    def finish(self) -> None:
        self.finished = True


def mapping_of(*rules: AnyRule, names: Iterable[str] = (), **parts: Any) -> LayoutMapping:
    """A mapping whose declared names are fields of both configs, under their own names."""
    table = ConfigTable(tuple(Field(name, name, name) for name in names))
    return LayoutMapping(LEFT, RIGHT, rules, **{"config": table, **parts})


def plan_of(mapping: Any, arrays: Arrays | Checkpoint, config: dict[str, Any] | None = None, **options: Any) -> Plan:
    """The plan of a mapping for arrays, made as for any checkpoint."""
    checkpoint = arrays if isinstance(arrays, Checkpoint) else Memory(arrays)
    pieces: dict[str, Any] = {"allow_missing": ("*",)}  # most arrays are a piece of a checkpoint
    return make_plan(source_of(checkpoint, config), mapping, options=Options(**(pieces | options)))


def source_of(checkpoint: Checkpoint, config: dict[str, Any] | None = None) -> Source:
    """A checkpoint with its config beside it."""
    return Source(checkpoint.path, checkpoint, config or {}, None, {})


def carried(mapping: Any, arrays: Arrays | Checkpoint, config: dict[str, Any] | None = None, **options: Any) -> Arrays:
    """What a mapping makes of arrays."""
    checkpoint = arrays if isinstance(arrays, Checkpoint) else Memory(arrays)
    return made(plan_of(mapping, checkpoint, config, **options), checkpoint)


def made(plan: Plan, checkpoint: Checkpoint) -> Arrays:
    """What a plan makes of a checkpoint, through however many mappings."""
    return contents(Converted(links_of(plan, checkpoint, None)[-1]))


def contents(checkpoint: Checkpoint) -> Arrays:
    """Every leaf of a checkpoint, as an array or a value."""
    return {
        key: leaf.value
        if leaf.spec is None
        else checkpoint.read(key).view(value_dtype(leaf.spec.dtype)).reshape(leaf.spec.shape)
        for key, leaf in checkpoint.leaves.items()
    }


def assert_same(found: Arrays, expected: Arrays) -> None:
    """The same keys, and the same shapes, dtypes and bits."""
    assert sorted(found) == sorted(expected)
    for key, array in expected.items():
        if not isinstance(array, np.ndarray):
            assert found[key] == array, key
            continue
        assert (found[key].shape, found[key].dtype) == (array.shape, array.dtype), key
        assert found[key].tobytes() == array.tobytes(), key


def assert_both_ways(mapping: Any, left: Arrays, right: Arrays, config: dict[str, Any] | None = None) -> None:
    """The mapping makes ``right`` of ``left``, and its inverse makes ``left`` of ``right``."""
    assert_same(carried(mapping, left, config), right)
    assert_same(carried(inverse(mapping), right, config), left)
