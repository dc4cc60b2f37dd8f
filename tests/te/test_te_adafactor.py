"""Adafactor's slots between T5X and TE: each part of a fused kernel keeps its statistics."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from engine.memory import Arrays, assert_same, carried, contents, plan_of
from te_runs import unpacked

from convkit.cli import main
from convkit.errors import ConvkitError
from convkit.formats import open_checkpoint
from convkit.mapping import inverse
from convkit.mappings import find_mapping

UNUSED = np.zeros(1, np.float32)
STATE = "state.param_states.encoder.layers_{}."
#: embed, heads * dim, mlp: T5X's rows are ``embed`` of both kernels, of neither, of one; of equal sides it is the first
SIZES = [(6, 8, 10), (10, 8, 6), (8, 6, 10), (8, 8, 8)]


def source() -> Path:
    return next(iter(sorted((unpacked("sources") / "t5x_adafactor").iterdir())))


def leaves(path: Path) -> Arrays:
    """Those in the msgpack too."""
    with open_checkpoint(path, "t5x") as checkpoint:
        return contents(checkpoint)


def factored(embed: int, joined: int, mlp: int, momentum: bool = False, plain: bool = False) -> tuple[Arrays, Arrays]:
    """An encoder where T5X has factored every matrix, and the squares whose means the factors are."""
    random = np.random.default_rng(7)
    shapes = {f"attention.{n}.kernel": (embed, joined) for n in ("query", "key", "value")}
    shapes |= {"attention.out.kernel": (joined, embed), "mlp.wo.kernel": (mlp, embed)}
    shapes |= {f"mlp.{name}.kernel": (embed, mlp) for name in (["wi"] if plain else ["wi_0", "wi_1"])}
    arrays: Arrays = {"state.step": np.int32(7).reshape(())}
    squares: Arrays = {}
    for i in range(2):
        for norm in ("pre_attention_layer_norm.scale", "pre_mlp_layer_norm.scale"):
            arrays[f"target.encoder.layers_{i}.{norm}"] = random.standard_normal(embed).astype(np.float32)
            state = f"{STATE.format(i)}{norm}."
            arrays |= {f"{state}{slot}": UNUSED for slot in ("m", "v_row", "v_col")}
            arrays[f"{state}v"] = random.random(embed).astype(np.float32)
        for name, shape in shapes.items():
            arrays[f"target.encoder.layers_{i}.{name}"] = random.standard_normal(shape).astype(np.float32)
            square = squares[f"{STATE.format(i)}{name}"] = random.random(shape).astype(np.float32)
            column, row = (0, 1) if shape[0] > shape[1] else (1, 0)
            state = f"{STATE.format(i)}{name}."
            arrays |= {f"{state}v_row": square.mean(column), f"{state}v_col": square.mean(row), f"{state}v": UNUSED}
            arrays[f"{state}m"] = random.standard_normal(shape).astype(np.float32) if momentum else UNUSED
    return arrays, squares


@pytest.mark.parametrize("momentum", [False, True])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_a_fused_kernel_has_the_means_of_each_of_its_parts(sizes: tuple[int, int, int], momentum: bool) -> None:
    """As T5X itself factors stacked parameters: by the rule (row, batch, column)."""
    arrays, squares = factored(*sizes, momentum=momentum)
    mapping = find_mapping("t5x/t5", "te/t5-fused")
    made = carried(mapping, arrays, format="torch")
    for i in range(2):
        at = STATE.format(i)
        for fused, parts in (
            ("attention.qkv.kernel", [f"attention.{n}.kernel" for n in ("query", "key", "value")]),
            ("mlp.wi_kernel", ["mlp.wi_0.kernel", "mlp.wi_1.kernel"]),
        ):
            square = np.stack([squares[at + part] for part in parts], axis=1)
            for slot, axis in (("v_row", 2), ("v_col", 0)):
                np.testing.assert_allclose(made[f"{at}{fused}.{slot}"], square.mean(axis), rtol=1e-6, strict=True)
            np.testing.assert_array_equal(made[f"{at}{fused}.v"], UNUSED, strict=True)
            moment = np.stack([arrays[f"{at}{part}.m"] for part in parts], axis=1) if momentum else UNUSED
            np.testing.assert_array_equal(made[f"{at}{fused}.m"], moment, strict=True)
        for slot in ("m", "v", "v_row", "v_col"):
            out, wo = f"{at}attention.out.kernel.{slot}", f"{at}mlp.wo"
            np.testing.assert_array_equal(made[out], arrays[out], strict=True)
            np.testing.assert_array_equal(made[f"{wo}_kernel.{slot}"], arrays[f"{wo}.kernel.{slot}"], strict=True)
    assert_same(carried(inverse(mapping), made, format="torch"), arrays)


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_a_step_of_each_part_is_what_it_was(sizes: tuple[int, int, int]) -> None:
    """The factors by which Adafactor divides a gradient, before and after."""
    arrays, squares = factored(*sizes)
    made = carried(find_mapping("t5x/t5", "te/t5-fused"), arrays, format="torch")
    at = STATE.format(1)
    row, column = (made[f"{at}attention.qkv.kernel.{slot}"] for slot in ("v_row", "v_col"))
    fused = (row / row.mean(0, keepdims=True))[:, :, None] * column[None]
    for n, part in enumerate(("query", "key", "value")):
        state = f"{at}attention.{part}.kernel."
        own, other = arrays[f"{state}v_row"], arrays[f"{state}v_col"]
        alone = np.multiply.outer(own / own.mean(), other)
        if sizes[0] > sizes[1]:
            alone = alone.T
        assert alone.shape == squares[f"{at}attention.{part}.kernel"].shape
        np.testing.assert_allclose(fused[:, n], alone, rtol=1e-5)


def test_a_plain_mlp_keeps_its_means() -> None:
    arrays, _ = factored(6, 8, 10, plain=True)
    mapping = find_mapping("t5x/t5", "te/t5")
    made = carried(mapping, arrays, format="torch")
    state = STATE.format(0) + "mlp.wi"
    np.testing.assert_array_equal(made[f"{state}_kernel.v_row"], arrays[f"{state}.kernel.v_row"][:, None], strict=True)
    np.testing.assert_array_equal(made[f"{state}_kernel.v_col"], arrays[f"{state}.kernel.v_col"][None], strict=True)
    assert_same(carried(inverse(mapping), made, format="torch"), arrays)


@pytest.mark.golden
@pytest.mark.parametrize("te", ["te/t5", "te/t5-fused"])
def test_a_genuine_checkpoint_of_small_matrices_is_not_factored(te: str) -> None:
    arrays = leaves(source())
    mapping = find_mapping("t5x/t5", te)
    made = carried(mapping, arrays, format="torch")
    state = "state.param_states.decoder.layers_1.mlp.wi"
    whole = np.stack([arrays[f"{state}_{g}.kernel.v"] for g in range(2)], axis=1)
    np.testing.assert_array_equal(made[f"{state}_kernel.v"], whole, strict=True)
    for slot in ("m", "v_row", "v_col"):
        np.testing.assert_array_equal(made[f"{state}_kernel.{slot}"], UNUSED, strict=True)
    assert_same(carried(inverse(mapping), made, format="torch"), arrays)


@pytest.mark.golden
@pytest.mark.parametrize("flags", [["--t5x-fuse-qkv"], [], ["--t5x-fuse-qkv", "--weight-only"]], ids=str)
def test_there_and_back_on_disk(flags: list[str], tmp_path: Path) -> None:
    te = ["te", "--fw=t5x", *flags]
    there, back = tmp_path / "te", tmp_path / "fw"
    assert main([*te, f"--input-path={source()}", f"--output-path={there}", "--direction=fw2te"]) == 0
    assert main(["roundtrip", str(source()), str(there)]) == 0
    assert main([*te, f"--input-path={there}", f"--output-path={back}", "--direction=te2fw"]) == 0
    assert main(["roundtrip", str(there), str(back)]) == 0
    assert_same(leaves(back), leaves(source()))


def test_what_is_no_slot_is_refused() -> None:
    arrays, _ = factored(6, 8, 10)
    arrays[f"{STATE.format(0)}attention.query.kernel.preconditioner"] = UNUSED
    with pytest.raises(ConvkitError, match="is the state of an optimizer that can't be converted"):
        plan_of(find_mapping("t5x/t5", "te/t5-fused"), arrays, format="torch")


def test_factors_of_another_shape_are_refused() -> None:
    arrays, _ = factored(6, 8, 10)
    key = f"{STATE.format(0)}attention.query.kernel.v_row"
    arrays[key] = np.zeros(5, np.float32)
    with pytest.raises(ConvkitError, match=r"v_row"):
        plan_of(find_mapping("t5x/t5", "te/t5-fused"), arrays, format="torch")
