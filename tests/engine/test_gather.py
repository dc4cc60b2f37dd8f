"""Sources that must be decoded: each piece is decoded once, in order, and only what a slab needs is held."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from convkit.execute.gather import Gather
from convkit.execute.job import copies
from convkit.execute.jobs import target_jobs
from convkit.mapping import Mapping, Rule
from engine.memory import Arrays, Memory, Told, carried, mapping_of, plan_of


class Chunked(Memory):
    """Arrays that are decoded in pieces of n elements, and a count of how often each piece was decoded."""

    def __init__(self, arrays: Arrays, grain: int) -> None:
        super().__init__(arrays)
        self.grain = grain
        self.decoded: Counter[tuple[str, int]] = Counter()
        self.largest = 0

    def granularity(self, key: str) -> int:
        return self.grain

    def read(self, key: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        spec = self.leaves[key].spec
        assert spec is not None
        stop = spec.size if stop is None else min(stop, spec.size)
        assert start % self.grain == 0
        assert stop % self.grain == 0 or stop == spec.size
        self.largest = max(self.largest, stop - start)
        self.decoded.update((key, at) for at in range(start, stop, self.grain))
        return super().read(key, start, stop)


def test_an_empty_leaf_is_copied() -> None:
    """It has no piece, as there is nothing to read."""
    (job,) = copies("target", Chunked({"empty": np.zeros((0, 3), "float32")}, grain=2))
    assert Gather(job)(0, 0).size == 0


LAYERS, ROWS, COLUMNS = 5, 8, 6
LAYER = ROWS * COLUMNS

#: a mapping, the pieces in which its source is decoded, and the elements that are held at most
CASES: dict[str, tuple[Mapping, int, int]] = {
    "moved": (mapping_of(Rule("x", "y")), COLUMNS, 2 * COLUMNS),
    "stacked layers transposed": (mapping_of(Rule("x", "y", "l r c -> l c r")), LAYER, LAYER),
    "in one piece": (mapping_of(Rule("x", "y", "l r c -> l c r")), LAYERS * LAYER, LAYERS * LAYER),
    "pieces across layers": (mapping_of(Rule("x", "y", "l r c -> l c r")), 7 * COLUMNS, 14 * COLUMNS),
    "the first axis moved": (mapping_of(Rule("x", "y", "l r c -> r l c")), LAYER, LAYERS * LAYER),
    "pairs of rows turned": (
        mapping_of(Rule("x", "y", "l (h two r) c -> l (h r two) c", h=2, two=2)),
        COLUMNS,
        4 * COLUMNS,
    ),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("slab", [1, 5, 12, LAYER, 1000])
def test_each_piece_is_decoded_once(name: str, slab: int) -> None:
    mapping, grain, most = CASES[name]
    array = np.arange(LAYERS * LAYER, dtype="float32").reshape(LAYERS, ROWS, COLUMNS)
    source = Chunked({"x": array}, grain)
    expected = carried(mapping, {"x": array})["y"].reshape(-1)
    (job,) = target_jobs(plan_of(mapping, source), source, None)
    gather = Gather(job)
    found = [gather(start, min(start + slab, array.size)).copy() for start in range(0, array.size, slab)]
    np.testing.assert_array_equal(np.concatenate(found).view("float32"), expected)
    assert set(source.decoded.values()) == {1}
    assert source.largest <= max(most, -(-slab // grain) * grain + grain)


def test_of_a_stack_only_the_layer_at_hand_is_held() -> None:
    mapping = mapping_of(Rule("x.{l}", "y", "l r c -> l c r"))
    arrays = {f"x.{layer}": np.full((ROWS, COLUMNS), layer, "float32") for layer in range(LAYERS)}
    source = Chunked(arrays, LAYER)
    (job,) = target_jobs(plan_of(mapping, source), source, None)
    gather = Gather(job)
    for start in range(0, LAYERS * LAYER, 12):
        gather(start, start + 12)
        assert set(gather.decoded) == {f"x.{start // LAYER}"}
    assert set(source.decoded.values()) == {1}


def test_who_asks_is_told_of_leaves_that_were_decoded_whole() -> None:
    mapping = mapping_of(Rule("x.{e}", "y", "e r c -> r e c"))
    arrays = {f"x.{e}": np.full((3, 4), e, "float32") for e in range(2)}
    for grain, expected in ((12, {"x.0", "x.1"}), (4, set())):
        source = Chunked(dict(arrays), grain)
        (job,) = target_jobs(plan_of(mapping, source), source, None)
        told: dict[str, Told] = {}
        gather = Gather(job, lambda key, told=told: told.setdefault(key, Told()))
        for start in range(0, 24, 8):
            gather(start, start + 8)
        assert told.keys() == expected
        for key, seen in told.items():
            assert seen.finished
            np.testing.assert_array_equal(np.concatenate(seen.data).view("float32"), arrays[key].reshape(-1))
