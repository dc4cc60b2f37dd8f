"""The loop with which every check reads a leaf: each element once, in order, including the last."""

from __future__ import annotations

import doctest
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from convkit.formats import open_checkpoint
from convkit.verify import blocks as module
from convkit.verify.blocks import blocks, same_bits, spans


def test_doctests() -> None:
    result = doctest.testmod(module)
    assert result.attempted and not result.failed


@given(st.integers(0, 200), st.integers(1, 60), st.integers(1, 60))
def test_spans_are_a_partition(size: int, most: int, unit: int) -> None:
    found = list(spans(size, most, unit))
    assert [index for start, stop in found for index in range(start, stop)] == list(range(size))
    assert all(start % unit == 0 and stop - start <= max(most, unit) for start, stop in found)


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 30])
def test_blocks_are_the_leaf_and_any_other_bit_is_seen(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOCK", 32)  # eight elements
    data = np.arange(size, dtype=np.float32)
    arrays = {"same": data, **{f"at {n}": np.where(np.arange(size) == n, -1, data) for n in range(size)}}
    save_file(arrays, tmp_path / "model.safetensors")
    with open_checkpoint(tmp_path / "model.safetensors") as checkpoint:
        read = [*blocks(checkpoint, "same")]
        assert [block.size for block in read] == [8] * (size // 8) + [size % 8] * bool(size % 8)
        assert b"".join(block.tobytes() for block in read) == data.tobytes()
        assert same_bits(checkpoint, "same", checkpoint, "same")
        assert not any(same_bits(checkpoint, "same", checkpoint, key) for key in arrays if key != "same")
