"""Cutting a leaf into ranges for threads."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from convkit.checkpoint import Leaf, Tensors, TensorSpec
from convkit.execute.job import Job, copies
from convkit.execute.runs import RUN, cut
from convkit.plan.pieces import Piece

WIDTH = 4
SIZE = 5 * RUN // WIDTH + 7


class Chunked(Tensors):
    """A leaf that is decoded in pieces of ``chunk`` elements; it isn't read here."""

    def __init__(self, chunk: int) -> None:
        self.leaves = {"a": Leaf("a", TensorSpec((SIZE,), "float32"))}
        self.chunk = chunk

    def read(self, key: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        raise NotImplementedError

    def granularity(self, key: str) -> int:
        return self.chunk


def ranges(job: Job, granularity: int = 1) -> list[tuple[int, int]]:
    """The ranges of a leaf, which follow on each other and are all of it."""
    found = [(part.start, part.stop) for part in cut(job, granularity)]
    assert found[0][0] == 0
    assert found[-1][1] == SIZE
    assert all(one[1] == other[0] for one, other in itertools.pairwise(found))
    return found


@pytest.mark.parametrize("chunk", [1, 1000, RUN // WIDTH])
def test_small_chunks_leave_ranges_as_they_are(chunk: int) -> None:
    (job,) = copies("target", Chunked(chunk))
    assert ranges(job) == ranges(copies("target", Chunked(1))[0])
    assert len(ranges(job)) == 6


def test_a_large_chunk_is_decoded_by_one_thread() -> None:
    chunk = 2 * RUN // WIDTH
    (job,) = copies("target", Chunked(chunk))
    assert ranges(job) == [(0, chunk), (chunk, 2 * chunk), (2 * chunk, SIZE)]
    (whole,) = copies("target", Chunked(SIZE))
    assert ranges(whole) == [(0, SIZE)]


def test_ranges_start_on_chunks_of_the_output() -> None:
    (job,) = copies("target", Chunked(2 * RUN // WIDTH))
    assert all(start % 3_000_000 == 0 for start, _ in ranges(job, 3_000_000))


def test_elements_in_another_order_are_cut_as_ever() -> None:
    """What a range needs of them lies all over the source."""
    rows, columns = 5 * RUN // WIDTH // 1000, 1000
    piece = Piece("a", "a", (rows, columns), 0, (1, rows), 0, (columns, 1))
    job = Job("target", "a", TensorSpec((SIZE,), "float32"), Chunked(SIZE), [piece])
    assert len(ranges(job)) == 6
