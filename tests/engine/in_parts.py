"""Conversions in parts, for tests: what is converted, and how each part is called."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from convkit.checkpoint import WriteOptions, threads
from convkit.execute import Part, runs
from convkit.execute.in_parts import finish, make_part
from convkit.files import shared
from convkit.mapping import LeftBehind, Rule, inverse
from convkit.mapping.ops import Pad
from convkit.plan import Options, make_plan, open_source
from engine.disk import everything_below
from engine.memory import Arrays, mapping_of

#: padding that isn't the fill and an optimizer give a complement; tied names, a transposition, a stack, and two leaves
#: that are cut into ranges
MAPPING = inverse(
    mapping_of(
        Rule(("embed", "head"), ("E", "H"), "v d -> v d", v="vocab", ops=(Pad(0, "padded"),)),
        Rule("l.{e}", "stacked", "e x y -> y e x"),
        Rule("up", "down", "x y -> y x"),
        Rule("same", "same"),
        Rule("small", "small"),
        LeftBehind("right", "optimizer.{rest:*}", "not the model"),
        names=["vocab", "padded"],
    )
)
CONFIG = {"vocab": 23, "padded": 32}
#: how each format is written that parts can fill
FORMATS = {
    "safetensors": WriteOptions(),
    "safetensors in shards": WriteOptions(shard_size=1 << 20),
    "torch": WriteOptions(),
    "cerebras-h5": WriteOptions(),
    "t5x": WriteOptions(),
    "pax": WriteOptions(),
    "orbax-v0": WriteOptions(ocdbt=False),
    "orbax-v1": WriteOptions(ocdbt=False),
    "orbax-v0 database": WriteOptions(),
    "orbax-v1 database": WriteOptions(),
}


def arrays(seed: int = 0) -> Arrays:
    random = np.random.default_rng(seed)
    left: Arrays = {
        "E": random.standard_normal((32, 11)),
        "stacked": random.standard_normal((9, 3, 7)),
        "down": random.standard_normal((1024, 800)),
        "same": random.standard_normal(3 << 18),
        "small": random.standard_normal((1, 1)),
        "optimizer.mu": random.standard_normal((20, 10)),
    }
    left["H"] = left["E"].copy()
    return {key: array.astype("float32") for key, array in left.items()}


@contextmanager
def short_ranges() -> Iterator[None]:
    """Ranges of a digest block, slabs of less, and threads for little work."""
    with ExitStack() as stack:
        for owner, name, value in (
            *((runs, "RUN", 1 << 20), (runs, "WINDOW", 1 << 20), (runs, "SLAB", 1 << 16)),
            *((runs, "MAX_SLAB", 1 << 16), (threads, "LITTLE", 0)),
        ):
            stack.enter_context(patch.object(owner, name, value))
        yield


def format_of(called: str) -> str:
    return called.partition(" ")[0]


def made(
    source: Path, target: Path, number: int, count: int, asked: dict[str, Any] | None = None, **how: Any
) -> dict[str, Any]:
    """Make a part."""
    with open_source(source) as opened:
        plan = make_plan(opened, MAPPING, options=Options(**(asked or {})))
        return make_part(opened, plan, target, Part(number, count), **how)


def finished(source: Path, target: Path, asked: dict[str, Any] | None = None, **how: Any) -> dict[str, Any]:
    """Finish the parts."""
    with open_source(source) as opened:
        return finish(opened, make_plan(opened, MAPPING, options=Options(**(asked or {}))), target, **how)


def the_same(found: Path, expected: Path) -> None:
    """Byte by byte, and nothing is left of the parts."""
    assert everything_below(found) == everything_below(expected)
    assert [path.name for path in found.iterdir() if path.name.startswith(".")] == []


def part_that_dies(source: Path, target: Path, part: tuple[int, int], after: int, **how: Any) -> None:
    """Die once some ranges are in the journal."""
    real, seen = shared.Journal.record, []

    def record(journal: shared.Journal, entry: dict[str, Any]) -> None:
        real(journal, entry)
        seen.append(entry)
        if len(seen) == after:
            os._exit(0)

    with short_ranges(), patch.object(shared.Journal, "record", record):
        made(source, target, *part, **how)
