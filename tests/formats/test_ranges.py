from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from convkit.formats.arrays.ranges import block, box_size, boxes

SHAPES = st.lists(st.integers(1, 7), max_size=4)


@given(shape=SHAPES, data=st.data())
def test_boxes_hold_the_range_in_order(shape: list[int], data: st.DataObject) -> None:
    array = np.arange(int(np.prod(shape))).reshape(shape)
    start, stop = sorted(data.draw(st.tuples(*[st.integers(0, array.size)] * 2)))
    found = list(boxes(shape, start, stop))
    elements = [element for box in found for element in array[box].reshape(-1)]
    assert elements == list(range(start, stop))
    assert [box_size(box) for box in found] == [array[box].size for box in found]
    assert len(found) <= max(1, 2 * len(shape) - 1)


@given(shape=SHAPES, data=st.data())
def test_multiples_of_a_block_are_whole_chunks(shape: list[int], data: st.DataObject) -> None:
    """No chunk is cut by the border of two blocks."""
    chunks = [data.draw(st.integers(1, length)) for length in shape]
    size = int(np.prod(shape))
    position = np.stack(np.unravel_index(np.arange(size), shape), -1) if shape else np.zeros((1, 0), int)
    chunk = [tuple(row // chunks) for row in position]
    grain = block(shape, chunks)
    for start in range(0, size, grain):
        mine = set(chunk[start : start + grain])
        assert not mine & set(chunk[:start] + chunk[start + grain :])


def test_blocks_along_the_first_axis_are_single_chunks() -> None:
    assert block((100, 8), (10, 8)) == 80
    assert block((4, 100, 8), (1, 10, 8)) == 80
    assert block((4, 100, 8), (1, 30, 8)) == 800  # rows that don't divide: the whole of what they divide
    assert block((0, 8), (1, 8)) == 8
    assert block((), ()) == 1
