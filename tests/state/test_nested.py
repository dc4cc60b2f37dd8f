"""Trees taken apart and put together again."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convkit.state.orbax.nested import flat, nested
from convkit.state.orbax.tree import DICT, SEQUENCE

LEAVES = st.none() | st.integers() | st.text(max_size=3) | st.just(...)
TREES = st.recursive(
    LEAVES | st.just({}) | st.just([]),
    lambda inner: st.lists(inner, min_size=1, max_size=12) | st.dictionaries(st.text(max_size=3), inner, min_size=1),
    max_leaves=20,
)


@given(TREES)
def test_apart_and_together(tree: Any) -> None:
    assert nested(flat(tree)) == tree


def test_positions_are_put_in_their_order() -> None:
    leaves = [((("a", DICT), (str(n), SEQUENCE)), n) for n in reversed(range(11))]
    assert nested(leaves) == {"a": list(range(11))}


def test_tuples_are_lists() -> None:
    assert list(flat({"a": (1, ())})) == [
        ((("a", DICT), ("0", SEQUENCE)), 1),
        ((("a", DICT), ("1", SEQUENCE)), ()),
    ]


@pytest.mark.parametrize("leaf", [{}, {"x": 1}, None])
def test_a_leaf_without_a_path_is_the_tree(leaf: Any) -> None:
    assert nested([((), leaf)]) == leaf
