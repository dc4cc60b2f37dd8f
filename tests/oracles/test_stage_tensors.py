"""Tensors of a stage: held until released, changed and seen in part for a while."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from paired_models import llama
from safetensors.torch import save_file

from convkit.formats import open_checkpoint
from convkit.oracles import get_oracle
from convkit.oracles.parts import Cut, Part
from convkit.oracles.stage_tensors import StageTensors
from convkit.oracles.tensors import ReadTensors
from convkit.oracles.windows import Rows, Slice, Window

STORED = {"a": torch.arange(12.0).reshape(3, 4).bfloat16(), "b": torch.ones(3)}


@pytest.fixture
def read(tmp_path: Path) -> Iterator[ReadTensors]:
    save_file(STORED, tmp_path / "model.safetensors")
    with open_checkpoint(tmp_path / "model.safetensors") as opened:
        yield ReadTensors(opened)


def test_tensors_are_held_until_they_are_released(read: ReadTensors) -> None:
    tensors = StageTensors(read)
    assert set(tensors) == {"a", "b"} and len(tensors) == 2 and "c" not in tensors and tensors.shape("a") == (3, 4)
    assert read.alive.bytes == 0
    assert tensors["a"] is tensors["a"]
    tensors.held("a")[0] = 9
    assert (tensors["a"][0] == 9).all() and read.alive.bytes == 48
    tensors.release()
    gc.collect()
    assert read.alive.bytes == 0
    assert torch.equal(tensors["a"], STORED["a"].float())


def test_a_change_is_made_anew_and_reads_what_is_below_it(read: ReadTensors) -> None:
    tensors, made = StageTensors(read), []

    def doubled() -> torch.Tensor:
        made.append(1)
        return 2 * tensors["a"] + tensors["b"].sum()

    with tensors.changed({"a": doubled, "b": lambda: tensors["a"][:, 0]}):
        assert torch.equal(tensors["a"], 2 * STORED["a"].float() + 3) and len(made) == 1
        assert torch.equal(tensors["b"], STORED["a"][:, 0].float()), "each change reads the tensors before it"
        assert torch.equal(tensors.held("a"), STORED["a"].float())
        with tensors.changed({"a": lambda: 10 * tensors["a"]}):
            assert torch.equal(tensors["a"], 20 * STORED["a"].float() + 30)
        assert not tensors.same("b", "b") or torch.equal(tensors["b"], tensors["b"])
        assert len(made) == 2
    assert torch.equal(tensors["a"], STORED["a"].float())


def test_a_window_is_all_that_is_read(read: ReadTensors) -> None:
    tensors = StageTensors(read)
    with tensors.windowed({"a": Slice(0, 1, 3)}):
        assert torch.equal(tensors["a"], STORED["a"][1:].float()) and tensors.shape("a") == (3, 4)
        assert read.alive.bytes == 32
        with tensors.changed({"a": lambda: -tensors["a"]}), tensors.windowed({"a": Slice(1, 0, 1)}):
            assert torch.equal(tensors["a"], -STORED["a"][:, :1].float()), "the window within counts, for all"
        assert tensors.window("a") == Slice(0, 1, 3)
    assert tensors.window("a") is None and torch.equal(tensors["a"], STORED["a"].float())


@pytest.mark.parametrize("axis", [0, 1])
def test_rows_of_a_table(read: ReadTensors, axis: int) -> None:
    tensors, whole = StageTensors(read), STORED["a"].float()
    with tensors.windowed({"a": Rows(axis, torch.tensor([[2, 0], [2, 2]]))}):
        seen = tensors["a"]
        expected = torch.zeros_like(whole)
        for row in (0, 2):
            expected.select(axis, row).copy_(whole.select(axis, row))
        assert torch.equal(seen, expected) and seen.shape == (3, 4)
        assert read.alive.bytes == 4 * 2 * whole.shape[1 - axis]
        copy = tensors.copy("a")
        copy.zero_()
        assert torch.equal(tensors["a"], expected)


def test_edits_are_by_key(tmp_path: Path) -> None:
    """By key, second names included, through windows too."""
    pair = llama(tied=True)
    save_file({key: value.clone() for key, value in pair.cs.items()}, tmp_path / "model.safetensors")
    with open_checkpoint(tmp_path / "model.safetensors") as opened:
        tensors = StageTensors(ReadTensors(opened))
        oracle = get_oracle("cerebras/llama")(pair.cs_config, tensors)
        changes = {
            "embedding.weight": lambda: oracle.part("embedding.weight") * 3,
            "layers.1.q.weight": torch.zeros(24, 24),
        }
        edits = oracle.edits(changes)
        embedding = oracle.roles["embedding.weight"].key
        twins = [key for key, original in oracle.twins.items() if original == embedding]
        assert edits.keys() == {embedding, *twins, oracle.roles["layers.1.q.weight"].key} and twins
        whole = {key: make().clone() for key, make in edits.items()}
        with tensors.changed(edits):
            assert all(torch.equal(tensors[key], whole[key]) for key in edits)
            for window in (Slice(0, 3, 7), Rows(0, torch.tensor([5, 2]))):
                with tensors.windowed({embedding: window}):
                    expected = whole[embedding][3:7] if isinstance(window, Slice) else whole[embedding][[2, 5]]
                    found = tensors[embedding]
                    assert torch.equal(found if isinstance(window, Slice) else found[[2, 5]], expected)
                    assert found.count_nonzero() == expected.count_nonzero()


@pytest.mark.parametrize(
    ("part", "window"),
    [
        (Part("x"), Slice(0, 1, 3)),
        (Part("x", transposed=True), Slice(1, 2, 4)),
        (Cut("x", ins=(0,)), Slice(1, 0, 2)),
        (Cut("x", ins=(0,)), Rows(1, torch.tensor([3]))),
        (Cut("x", at=(1,)), Slice(0, 1, 2)),
        (Cut("x", at=(1,)), Slice(0, 2, 4)),
        (Cut("x", at=(None, 2)), Slice(1, 1, 3)),
    ],
)
def test_what_a_window_shows_of_a_part_is_written(part: Part, window: Window) -> None:
    whole = torch.arange(16.0).reshape(4, 4)
    value, written = -part.of({"x": whole}).clone(), whole.clone()
    part.put(written, value)
    if isinstance(window, Rows):
        seen = torch.zeros(4, 4)
        part.put(seen, value, window)
        assert torch.equal(seen[:, 3], written[:, 3]) and not seen[:, :3].any()
        return
    seen = whole.narrow(window.axis, window.start, window.length).clone()
    part.put(seen, value, window)
    assert torch.equal(seen, written.narrow(window.axis, window.start, window.length))
    assert not part.is_whole or torch.equal(part.stored(value, window), seen)


def test_a_whole_tensor_is_edited_without_reading_it(tmp_path: Path) -> None:
    pair = llama()
    save_file({key: value.clone() for key, value in pair.cs.items()}, tmp_path / "model.safetensors")
    with open_checkpoint(tmp_path / "model.safetensors") as opened:
        tensors = StageTensors(read := ReadTensors(opened))
        oracle = get_oracle("cerebras/llama")(pair.cs_config, tensors)
        weight = torch.randn(oracle.part_shape("layers.0.up.weight"))
        with tensors.changed(oracle.edits({"layers.0.up.weight": weight})):
            assert torch.equal(oracle.part("layers.0.up.weight"), weight)
        assert read.alive.peak == 0
