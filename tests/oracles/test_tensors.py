"""Tensors on demand: read when asked for, replaced without a copy, counted while in use; and parts of fused ones."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from paired_models import llama
from safetensors.torch import save_file

from convkit.checkpoint import Checkpoint
from convkit.formats import open_checkpoint
from convkit.oracles import get_oracle
from convkit.oracles.parts import Cut, Part
from convkit.oracles.stage_tensors import StageTensors
from convkit.oracles.tensors import ReadTensors, same

STORED = {
    "a.weight": torch.arange(12.0).reshape(3, 4).bfloat16(),
    "a.bias": torch.ones(3),
    "a.step": torch.ones(1, dtype=torch.int64),
    "b.weight": torch.ones(2, dtype=torch.float16),
}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Iterator[Checkpoint]:
    save_file(STORED, tmp_path / "model.safetensors")
    with open_checkpoint(tmp_path / "model.safetensors") as opened:
        yield opened


def test_floats_are_read_as_float32_and_nothing_else_is(checkpoint: Checkpoint) -> None:
    tensors = ReadTensors(checkpoint, "a.")
    assert set(tensors) == {"a.weight", "a.bias"} and len(tensors) == 2 and "b.weight" not in tensors
    assert tensors.dtypes == {"a.weight": "bfloat16", "a.bias": "float32"}
    assert tensors["a.weight"].dtype == torch.float32
    assert torch.equal(tensors["a.weight"], STORED["a.weight"].float())


def test_bytes_are_counted_as_long_as_anything_uses_them(checkpoint: Checkpoint) -> None:
    tensors = ReadTensors(checkpoint)
    assert tensors.shape("a.weight") == (3, 4) and tensors.alive.bytes == 0
    row = tensors["a.weight"][1]
    other = tensors["a.bias"]
    gc.collect()
    assert tensors.alive.bytes == 48 + 12
    del row, other
    gc.collect()
    assert (tensors.alive.bytes, tensors.alive.peak) == (0, 60)


def test_two_names_of_one_tensor_are_compared_without_holding_them(tmp_path: Path) -> None:
    shared, zero = torch.ones(3), torch.tensor([0.0, 1, 2])
    stored = {"a": shared, "b": shared, "c": torch.ones(3), "d": torch.ones(3).bfloat16(), "e": zero, "f": -zero.abs()}
    torch.save(stored | {"g": torch.tensor([-0.0, 1, 2])}, tmp_path / "a.bin")
    with open_checkpoint(tmp_path / "a.bin", "torch") as opened:
        tensors = ReadTensors(opened)
        assert same(tensors, "a", "b") and same(tensors, "a", "c") and same(tensors, "e", "g")
        assert not same(tensors, "a", "e") and not same(tensors, "e", "f")
        assert tensors.alive.peak == 0
        assert same(tensors, "a", "d") and tensors.alive.peak == 24  # of two dtypes
        stage = StageTensors(tensors)
        with stage.changed({"b": lambda: torch.zeros(3)}):
            assert not same(stage, "a", "b") and same(stage, "a", "c")


def test_an_edit_reads_nothing_before_it_is_read() -> None:
    pair = llama()
    oracle = get_oracle("cerebras/llama")(pair.cs_config, pair.cs)
    role = "layers.1.q.weight"
    asked = []

    def doubled() -> torch.Tensor:
        asked.append(1)
        return oracle.part(role) * 2

    edits = oracle.edits({role: doubled})
    assert not asked
    (made,) = (make() for make in edits.values())
    assert torch.equal(made, oracle.part(role) * 2) and asked == [1]


@given(st.integers(1, 3), st.lists(st.integers(1, 3), min_size=1, max_size=4), st.integers(1, 3), st.booleans())
def test_the_parts_of_a_fused_tensor(groups: int, sizes: list[int], unit: int, transposed: bool) -> None:
    """Parts are what concatenating them group by group has joined; writing one changes it and no other."""
    pieces = [torch.randn(groups, size * unit, 2) for size in sizes]
    whole = torch.cat(pieces, 1).flatten(0, 1)
    whole = whole.T.contiguous() if transposed else whole
    parts = [Part("x", transposed, index, tuple(sizes), groups) for index in range(len(sizes))]
    for part, piece in zip(parts, pieces, strict=True):
        assert torch.equal(part.of({"x": whole}), piece.flatten(0, 1))
    parts[-1].put(whole, torch.zeros_like(pieces[-1].flatten(0, 1)))
    for part, piece in zip(parts[:-1], pieces[:-1], strict=True):
        assert torch.equal(part.of({"x": whole}), piece.flatten(0, 1))
    assert not parts[-1].of({"x": whole}).any()


def test_an_expert_of_a_stacked_tensor() -> None:
    whole = torch.randn(5, 3, 2)
    expert, sound = Cut("x", at=(None, 1), ins=(1,)), whole.clone()
    assert torch.equal(expert.of({"x": whole}), whole[:, 1])
    expert.put(whole, torch.zeros(5, 2))
    assert not whole[:, 1].any() and torch.equal(whole[:, ::2], sound[:, ::2])
