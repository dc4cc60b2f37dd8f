"""Reading block by block, and views of checkpoints."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convkit.checkpoint import Leaf, TensorSpec
from convkit.checkpoint.tensors import ITEMSIZE
from convkit.checkpoint.views import Joined, Overlay, Renamed
from convkit.errors import ConvkitError
from convkit.testing import bits
from engine.memory import Arrays, Memory, assert_same, contents


class Decoded(Memory):
    """Arrays that are decoded in pieces of n elements; every range that is read starts and ends with a piece."""

    def __init__(self, arrays: Arrays, grain: int) -> None:
        super().__init__(arrays)
        self.grain = grain
        self.read_elements = 0

    def granularity(self, key: str) -> int:
        return self.grain

    def read(self, key: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        data = super().read(key, start, stop)
        self.read_elements += data.size
        return data


@given(st.integers(0, 200), st.sampled_from(sorted(ITEMSIZE)), st.integers(1, 90), st.integers(1, 500), st.data())
def test_blocks_are_the_leaf_in_order(size: int, dtype: str, grain: int, nbytes: int, data: st.DataObject) -> None:
    from convkit.checkpoint.tensors import value_dtype

    elements = bits(TensorSpec((size,), dtype), size)
    tensors = Decoded({"x": elements.view(value_dtype(dtype))}, grain)
    start = data.draw(st.integers(0, size))
    stop = data.draw(st.none() | st.integers(start, size))
    found = list(tensors.blocks("x", nbytes, start=start, stop=stop))
    place = start
    for at, block in found:
        assert at == place and 0 < block.size <= max(1, nbytes // ITEMSIZE[dtype])
        place += block.size
    assert b"".join(block.tobytes() for _, block in found) == elements[start:stop].tobytes()


@given(st.integers(1, 300), st.integers(1, 90), st.integers(1, 500))
def test_what_is_decoded_together_is_read_once_and_whole(size: int, grain: int, nbytes: int) -> None:
    class Strict(Decoded):
        def read(self, key: str, start: int = 0, stop: int | None = None) -> np.ndarray:
            assert start % grain == 0 and (stop == size or (stop or 0) % grain == 0)
            return super().read(key, start, stop)

    tensors = Strict({"x": np.arange(size, dtype="float32")}, grain)
    assert sum(block.size for _, block in tensors.blocks("x", nbytes)) == size
    assert tensors.read_elements == size


def test_blocks_of_what_is_no_tensor_are_refused_with_the_key() -> None:
    for key in ("value", "absent"):
        with pytest.raises(ConvkitError, match="holds no tensor") as refusal:
            list(Memory({"value": 3}).blocks(key))
        assert (refusal.value.key, refusal.value.path) == (key, "memory")


LEFT = {"a": np.arange(6.0).reshape(2, 3), "b": np.arange(4), "n": 3}
RIGHT = {"b": np.arange(9), "c": np.ones(2, "float16")}


def test_of_several_the_first_that_has_a_key_is_read() -> None:
    joined = Joined(Memory(LEFT), Memory(RIGHT))
    assert list(joined.leaves) == ["a", "b", "n", "c"]
    assert_same(contents(joined), {**RIGHT, **LEFT})
    assert Joined(Decoded(LEFT, 5), Memory(RIGHT)).granularity("b") == 5


def test_leaves_are_renamed_with_their_ties() -> None:
    renamed = Renamed(Memory({**LEFT, "t": LEFT["a"]}, ties={"t": "a"}), {"x.a": "a", "x.t": "t", "x.n": "n"})
    assert_same(contents(renamed), {"x.a": LEFT["a"], "x.t": LEFT["a"], "x.n": 3})
    assert renamed.leaves["x.t"].same_as == "x.a" and renamed.leaves["x.a"].key == "x.a"
    assert Renamed(Memory({"t": LEFT["a"]}, ties={"t": "a"}), {"y": "t"}).leaves["y"].same_as is None


def test_leaves_are_hidden_added_and_changed() -> None:
    below = Memory(LEFT)
    leaves = {"b": below.leaves["b"], "new": Leaf("new", TensorSpec((2, 2), "uint8"))}
    seen = Overlay(below, leaves, {"new": np.arange(4, dtype="uint8")})
    assert_same(contents(seen), {"b": LEFT["b"], "new": np.array([[0, 1], [2, 3]], "uint8")})
    with pytest.raises(ConvkitError, match="holds no tensor"):
        seen.read("a")
    assert_same(contents(Overlay(below)), LEFT)
    assert (seen.path, seen.format, seen.files()) == (below.path, below.format, below.files())
