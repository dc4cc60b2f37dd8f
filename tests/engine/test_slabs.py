"""Strided copies cut to runs of the target copy every element once, wherever the cuts fall."""

from __future__ import annotations

import itertools
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convkit.execute import tiles
from convkit.execute.slabs import Box, clip, copy_box
from convkit.plan.pieces import Piece


@st.composite
def pieces(draw: st.DrawFn) -> tuple[Piece, int, int]:
    """A piece between two padded tensors of any axis order, and the sizes of both."""
    shape = tuple(draw(st.lists(st.integers(1, 5), max_size=4)))
    order = draw(st.permutations(range(len(shape))))
    target_strides, target_size = _strides(draw, shape, range(len(shape)))
    source_strides, source_size = _strides(draw, shape, order)
    offsets = draw(st.integers(0, 5)), draw(st.integers(0, 5))
    piece = Piece("s", "t", shape, offsets[0], source_strides, offsets[1], target_strides)
    return piece, offsets[0] + source_size, offsets[1] + target_size


def _strides(draw: st.DrawFn, shape: tuple[int, ...], order: range | list[int]) -> tuple[tuple[int, ...], int]:
    """Strides that nest in this order, the slowest first, with gaps now and then."""
    strides = [0] * len(shape)
    span = 1
    for axis in reversed(order):
        strides[axis] = span + draw(st.sampled_from([0, 0, 0, 1, 3]))
        span += (shape[axis] - 1) * strides[axis]
    return tuple(strides), span


def elements(piece: Piece | Box) -> dict[int, int]:
    """Target element -> source element."""
    return {
        piece.target_offset + sum(n * t for n, t in zip(index, piece.target_strides, strict=True)): piece.source_offset
        + sum(n * s for n, s in zip(index, piece.source_strides, strict=True))
        for index in itertools.product(*map(range, piece.shape))
    }


@given(pieces(), st.lists(st.integers(0, 700), max_size=6))
def test_a_piece_is_the_sum_of_its_cuts(sample: tuple, cuts: list[int]) -> None:
    piece, _, size = sample
    found: dict[int, int] = {}
    for start, stop in itertools.pairwise(sorted({0, *(cut % (size + 1) for cut in cuts), size})):
        for box in clip(piece, start, stop):
            part = elements(box)
            assert all(start <= target < stop for target in part)
            assert not found.keys() & part.keys(), "an element is copied twice"
            found |= part
            low, high = box.source_span
            assert (low, high) == (min(part.values()), max(part.values()) + 1)
            assert box.contiguous <= (list(part.values()) == list(range(low, high)))
    assert found == elements(piece)


@given(pieces(), st.sampled_from(["uint8", "uint16", "uint32", "V16"]), st.integers(1, 5), st.data())
def test_a_box_is_copied_as_indexing_copies(sample: tuple, dtype: str, tile: int, data: st.DataObject) -> None:
    piece, source_size, target_size = sample
    source = np.arange(source_size * np.dtype(dtype).itemsize).astype("uint8").view(dtype)
    expected = np.zeros(target_size, dtype)
    for there, here in elements(piece).items():
        expected[there] = source[here]
    found = np.zeros(target_size, dtype)
    cut = data.draw(st.integers(0, target_size))
    with patch.object(tiles, "TILE", tile):
        for start, stop in ((0, cut), (cut, target_size)):
            for box in clip(piece, start, stop):
                low, high = box.source_span
                copy_box(box, source[low:high].copy(), low, found[start:stop], start)
    assert found.tobytes() == expected.tobytes()


def test_neighbouring_axes_become_one() -> None:
    (box,) = clip(Piece("s", "t", (3, 1, 4, 5), 7, (20, 9, 5, 1), 0, (20, 99, 5, 1)), 0, 60)
    assert (box.shape, box.source_strides, box.target_strides) == ((60,), (1,), (1,))
    assert box.contiguous


def test_nothing_outside_is_touched() -> None:
    piece = Piece("s", "t", (2, 3), 0, (3, 1), 10, (10, 1))
    assert list(clip(piece, 0, 10)) == []
    assert list(clip(piece, 13, 20)) == []
    assert list(clip(piece, 23, 99)) == []


def test_a_scalar_is_one_element() -> None:
    (box,) = clip(Piece("s", "t", (), 4, (), 2, ()), 0, 5)
    assert elements(box) == {2: 4}
    assert box.contiguous


@pytest.mark.parametrize("shape", [(300, 520), (513, 2, 257)])
def test_tiles_of_a_transposition(shape: tuple[int, ...]) -> None:
    """Larger than a tile both ways, in any cut."""
    source = np.random.default_rng(0).integers(0, 2**16, shape, np.uint16)
    reverse = shape[::-1]
    strides = np.array(source.strides)[::-1] // 2
    target_strides = np.cumprod((1, *reverse[::-1]))[-2::-1]
    piece = Piece("s", "t", reverse, 0, tuple(map(int, strides)), 0, tuple(map(int, target_strides)))
    found = np.zeros(source.size, np.uint16)
    for start, stop in itertools.pairwise([0, 12_345, 77_777, source.size]):
        for box in clip(piece, start, stop):
            copy_box(box, source.reshape(-1), 0, found[start:stop], start)
    assert np.array_equal(found.reshape(reverse), source.transpose())
