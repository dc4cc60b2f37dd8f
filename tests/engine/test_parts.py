"""Sources that lie open: of a transposed one no more is held than a window, and nothing else is read."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convkit.execute import parts
from convkit.execute.gather import Gather
from convkit.execute.job import Job
from convkit.execute.jobs import target_jobs
from convkit.execute.parts import Window
from convkit.execute.slabs import copy_box
from convkit.mapping import Rule
from convkit.plan.pieces import Piece
from engine.memory import Memory, Told, carried, mapping_of, plan_of
from engine.test_slabs import elements, pieces


class Open(Memory):
    """Arrays that lie open, and the elements that were read: at a time, and in all."""

    largest = total = 0

    def lies_open(self, key: str) -> bool:
        return True

    def read(self, key: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        data = super().read(key, start, stop)
        self._count(data)
        return data

    def rows(self, key: str, starts: Sequence[int], length: int) -> np.ndarray:
        data = np.array([Memory.read(self, key, start, start + length) for start in starts])
        assert data.shape == (len(starts), length)
        self._count(data)
        return data

    def _count(self, data: np.ndarray) -> None:
        self.largest = max(self.largest, data.size)
        self.total += data.size


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A window of 256 elements of two bytes; rows that lie 32 bytes apart are read one by one."""
    for name, value in {"WINDOW": 512, "_PAGE": 32, "_SPAN": 64}.items():
        monkeypatch.setattr(parts, name, value)


@given(pieces(), st.sampled_from([4, 64, 512]), st.sampled_from([2, 8, 1 << 20]), st.sampled_from([4, 32]), st.data())
def test_parts_are_what_the_piece_says(
    sample: tuple[Piece, int, int], window: int, page: int, span: int, data: st.DataObject
) -> None:
    piece, source_size, target_size = sample
    source = np.arange(1, source_size + 1, dtype="uint16")
    expected = np.zeros(target_size, "uint16")
    for there, here in elements(piece).items():
        expected[there] = source[here]
    cuts = sorted({0, target_size, *data.draw(st.lists(st.integers(0, target_size), max_size=4))})
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"WINDOW": window, "_PAGE": page, "_SPAN": span}.items():
            patch.setattr(parts, name, value)
        reader = Window(Open({"s": source}), piece, target_size)
        found = np.zeros(target_size, "uint16")
        for start, stop in itertools.pairwise(cuts):
            for part in reader.parts(start, stop):
                copy_box(part.box, part.data, 0, found[start:stop], start)
    np.testing.assert_array_equal(found, expected)


SHAPES = {
    "x y -> y x": (96, 80),
    "l x y -> l y x": (6, 40, 32),
    "y e x -> e x y": (64, 5, 24),
    "v (h two) -> (two h) v": (96, 80),
    "x y -> x y": (96, 80),
    "a b c -> b a c": (24, 16, 20),
}


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("slab", [7, 64, 1000])
@pytest.mark.parametrize("pattern", SHAPES)
def test_a_leaf_is_made_out_of_bounded_windows(pattern: str, slab: int) -> None:
    array = np.arange(np.prod(SHAPES[pattern]), dtype="uint16").reshape(SHAPES[pattern])
    mapping = mapping_of(Rule("x", "y", pattern, **({"two": 2} if "two" in pattern else {})))
    source = Open({"x": array})
    (job,) = target_jobs(plan_of(mapping, source), source, None)
    gather = Gather(job)
    found = [gather(start, min(start + slab, array.size)).copy() for start in range(0, array.size, slab)]
    np.testing.assert_array_equal(np.concatenate(found), carried(mapping, {"x": array})["y"].reshape(-1))
    assert source.largest <= 1.25 * max(256, slab) + 200
    if pattern == "x y -> x y":
        assert source.total == array.size


def test_nothing_beyond_the_end_of_a_run_is_read(small: None) -> None:
    array = np.arange(96 * 80, dtype="uint16").reshape(96, 80)
    source = Open({"x": array})
    (job,) = target_jobs(plan_of(mapping_of(Rule("x", "y", "x y -> y x")), source), source, None)
    Gather(job, until=96)(0, 96)
    assert source.total == 96


def test_a_leaf_that_is_read_whole_is_shown() -> None:
    seen: dict[str, Told] = {}
    array = np.arange(6, dtype="uint16").reshape(2, 3)
    source = Open({"x": array})
    job: Job
    (job,) = target_jobs(plan_of(mapping_of(Rule("x", "y", "x y -> y x")), source), source, None)
    Gather(job, lambda key: seen.setdefault(key, Told()))(0, 3)
    assert seen["x"].finished
    np.testing.assert_array_equal(np.concatenate(seen["x"].data), array.reshape(-1))
