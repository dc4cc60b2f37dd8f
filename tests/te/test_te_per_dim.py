"""Pax's scale for each dimension of a head: folded into the queries for TE, and recovered from them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from engine.memory import assert_same, carried, plan_of
from te_runs import Arrays, arrays, genuine, recorded
from te_runs import write_leaf as write
from test_te_oracles import CLOSE, model

from convkit.cli import main
from convkit.errors import ConvkitError
from convkit.files.receipt import read_receipt
from convkit.mapping import inverse
from convkit.mappings import find_mapping
from convkit.testing.stages import compared
from convkit.verify.roundtrip.check import roundtrip

pytestmark = pytest.mark.golden

LAYER = "mdl_vars.params.lm.transformer.x_layers_{}."
SCALE = "self_attention.per_dim_scale.per_dim_scale"
QKV = "transformerlayer.cld.attention.qkv.kernel"
WEIGHTS = {"scope": "weights"}


def source() -> Path:
    """Recorded: a genuine Paxml checkpoint with random scales."""
    return recorded("pax/per_dim_scale__fw2te").folder / "src"


def combined() -> Arrays:
    return arrays(source())


def split() -> Arrays:
    """The same with query, key and value apart."""
    found = {}
    for key, array in combined().items():
        parts = dict(zip(("query", "key", "value"), array, strict=True)) if "combined_qkv" in key else {}
        found |= {key.replace("combined_qkv", name): part for name, part in parts.items()} or {key: array}
    return found


def stacked() -> Arrays:
    return carried(find_mapping("pax/lm", "pax/lm-repeat"), combined(), format="torch")


CASES = {
    "combined": (combined, "pax/lm", "te/pax", {}),
    "combined, query apart in te": (combined, "pax/lm", "te/pax", {"te_qkv": "query"}),
    "split": (split, "pax/lm", "te/pax", {}),
    "split, query apart in te": (split, "pax/lm", "te/pax", {"te_qkv": "query"}),
    "stacked": (stacked, "pax/lm-repeat", "te/pax-repeat", {}),
}


@pytest.mark.parametrize("name", CASES)
def test_te_computes_what_pax_computes(name: str) -> None:
    make, fw, te, choices = CASES[name]
    arrays = make()
    mapping, options = find_mapping(fw, te), {"format": "torch", "choices": {**choices, **WEIGHTS}}
    plan = plan_of(mapping, arrays, **options)
    made = carried(mapping, arrays, **options)
    assert not any(key.startswith("mdl_vars") and "per_dim" in key for key in made)
    pax, folded = model(fw, arrays), model(te, made, {**plan.names, **plan.variant})
    ids = torch.randint(1, pax.facts.vocab_size, (2, 64), generator=torch.Generator().manual_seed(0))
    inputs = {"input_ids": ids}
    expected = pax.run(inputs).outputs["lm"]
    torch.testing.assert_close(folded.run(inputs).outputs["lm"], expected, rtol=0, atol=CLOSE)
    found = compared(pax, folded, inputs)
    assert found.sound and len(found.all_faults) >= 8
    assert [fault for fault in found.all_faults if not fault.caught] == []
    unscaled = {key: np.zeros_like(array) if key.endswith(SCALE) else array for key, array in arrays.items()}
    other = model(te, carried(mapping, unscaled, **options), {**plan.names, **plan.variant})
    assert (other.run(inputs).outputs["lm"] - expected).abs().max() > 0.5


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_queries_are_within_half_an_ulp_and_all_else_is_as_it_was(dtype: str) -> None:
    import ml_dtypes

    kind = np.dtype(getattr(ml_dtypes, dtype, dtype))
    arrays = {key: array.astype(kind) if array.dtype == np.float32 else array for key, array in combined().items()}
    mapping = find_mapping("pax/lm", "te/pax")
    made = carried(mapping, arrays, format="torch", choices=WEIGHTS)
    for i in range(2):
        found = made[LAYER.format(i) + QKV].reshape(8, 3, 2, 4)
        q, k, v = arrays[LAYER.format(i) + "self_attention.combined_qkv.w"]
        np.testing.assert_array_equal(found[:, 1], k)
        np.testing.assert_array_equal(found[:, 2], v)
        scale = arrays[LAYER.format(i) + SCALE].astype(np.longdouble)
        exact = q.astype(np.longdouble) * (np.longdouble(1.442695041) * np.log1p(np.exp(scale)))
        ulp = np.spacing(np.abs(found[:, 0].astype(np.float32))) * 2.0 ** (23 - ml_dtypes.finfo(kind).nmant)
        assert (np.abs(found[:, 0].astype(np.longdouble) - exact) <= 0.5001 * ulp).all()


def test_a_scale_of_zeros_changes_nothing() -> None:
    """Its initial value."""
    arrays = {key: np.zeros_like(array) if key.endswith(SCALE) else array for key, array in combined().items()}
    plain = {key: array for key, array in arrays.items() if not key.endswith(SCALE)}
    mapping, options = find_mapping("pax/lm", "te/pax"), {"format": "torch", "choices": WEIGHTS}
    made = {key: array for key, array in carried(mapping, arrays, **options).items() if not key.endswith(SCALE)}
    assert_same(made, carried(mapping, plain, **options))


def te(source: Path, target: Path, *flags: str) -> int:
    return main(["te", f"--input-path={source}", f"--output-path={target}", "--fw=pax", *flags])


@pytest.mark.parametrize("flags", [[], ["--skip-bias"], ["--te-qkv-layout=kv_packed"], ["--skip-ln"]], ids=str)
def test_there_and_back_is_exact_by_the_complement(flags: list[str], tmp_path: Path) -> None:
    assert te(source(), tmp_path / "te", "--direction=fw2te", "--weight-only", *flags) == 0
    assert main(["roundtrip", str(source()), str(tmp_path / "te")]) == 0
    assert main(["verify", str(tmp_path / "te")]) == 0
    assert te(tmp_path / "te", tmp_path / "fw", "--direction=te2fw") == 0
    assert main(["roundtrip", str(tmp_path / "te"), str(tmp_path / "fw")]) == 0
    assert_same(arrays(tmp_path / "fw"), combined())


def test_there_and_back_through_another_dtype(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Folded leaves are kept unchanged, so they come back if the same dtype is requested."""
    convert = ["convert", "--variant=scope=weights"]
    assert main([*convert, str(source()), str(tmp_path / "te"), "--to=te/pax", "--dtype=bfloat16"]) == 0
    assert main(["roundtrip", str(source()), str(tmp_path / "te")]) == 0
    assert main([*convert, str(tmp_path / "te"), str(tmp_path / "fw"), "--to=pax/lm"]) == 3
    assert "convert with the options of the first conversion" in capfd.readouterr().err
    assert main([*convert, str(tmp_path / "te"), str(tmp_path / "fw"), "--to=pax/lm", "--dtype=float32"]) == 0
    key = LAYER.format(1) + "self_attention.combined_qkv.w"
    np.testing.assert_array_equal(arrays(tmp_path / "fw")[key], combined()[key])


def test_equivalence_from_the_command_line(tmp_path: Path) -> None:
    assert te(source(), tmp_path / "te", "--direction=fw2te", "--weight-only") == 0
    assert main(["equivalence", str(source()), str(tmp_path / "te"), "--probe-length=64"]) == 0


def test_a_scale_that_is_not_the_one_that_was_folded_is_a_fault_that_is_planted_and_seen(tmp_path: Path) -> None:
    assert te(source(), tmp_path / "te", "--direction=fw2te", "--weight-only") == 0
    receipt = read_receipt(tmp_path / "te")
    assert receipt
    verdict = roundtrip(source(), tmp_path / "te", receipt["plan"], receipt=receipt)
    assert verdict.passed
    assert [fault for fault in verdict.faults if fault.name == "multiplied by another leaf" and fault.caught]


@pytest.mark.parametrize("where", ["query", "key"])
def test_a_wrong_kernel_is_seen(where: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert te(source(), tmp_path / "te", "--direction=fw2te", "--weight-only") == 0
    key = LAYER.format(1) + QKV
    wrong = arrays(tmp_path / "te")[key].copy()
    part = wrong[:, ("query", "key").index(where)]
    part[...] = part * np.float32(1 + 1e-6) if where == "query" else np.nextafter(part, np.float32(9))
    write(tmp_path / "te" / key, wrong)
    assert main(["roundtrip", str(source()), str(tmp_path / "te")]) == 1
    assert "ulp from" in "".join(capfd.readouterr())


def test_the_originals_result_is_no_conversion(tmp_path: Path) -> None:
    """It left the scale where TE doesn't look for it."""
    assert te(source(), tmp_path / "te", "--direction=fw2te", "--weight-only") == 0
    right = arrays(tmp_path / "te")
    for key, array in arrays(source().with_name("dst")).items():
        if key.endswith(QKV) and key.startswith("mdl_vars"):
            assert np.abs(array - right[key]).max() > 0.1
            write(tmp_path / "te" / key, array)
    assert main(["roundtrip", str(source()), str(tmp_path / "te")]) == 1


def test_on_the_way_back_a_changed_kernel_is_seen(tmp_path: Path) -> None:
    assert te(source(), tmp_path / "te", "--direction=fw2te", "--weight-only") == 0
    assert te(tmp_path / "te", tmp_path / "fw", "--direction=te2fw") == 0
    key = LAYER.format(0) + "self_attention.combined_qkv.w"
    wrong = arrays(tmp_path / "fw")[key].copy()
    wrong[0, 0, 0, 0] *= 1.001
    write(tmp_path / "fw" / key, wrong)
    assert main(["roundtrip", str(tmp_path / "te"), str(tmp_path / "fw")]) == 1


def test_without_the_receipt_it_is_a_model_without_a_scale(tmp_path: Path) -> None:
    """Of which the queries are those that were scaled."""
    assert te(source(), tmp_path / "te", "--direction=fw2te", "--weight-only") == 0
    (tmp_path / "te.convkit.json").unlink()
    assert te(tmp_path / "te", tmp_path / "fw", "--direction=te2fw", "--weight-only", "--num-of-head=2") == 0
    back = arrays(tmp_path / "fw")
    assert not any(key.startswith("mdl_vars") and key.endswith(SCALE) for key in back)
    ids = {"input_ids": torch.arange(16)[None]}
    logits = [model("pax/lm", side).run(ids).outputs["lm"] for side in (combined(), back)]
    torch.testing.assert_close(*logits, rtol=0, atol=CLOSE)


@pytest.mark.parametrize(
    ("change", "options", "why"),
    [
        ({}, {}, "is a moment of a scale that is folded into queries"),
        ({"layer_norm.bias": None}, {"choices": WEIGHTS}, "may have been rotated"),
    ],
)
def test_what_cannot_be_folded_is_refused(change: dict[str, Any], options: dict[str, Any], why: str) -> None:
    arrays = {key: array for key, array in combined().items() if not any(key.endswith(name) for name in change)}
    with pytest.raises(ConvkitError, match=why):
        plan_of(find_mapping("pax/lm", "te/pax"), arrays, format="torch", **options)


def test_grouped_keys_are_folded_where_the_user_says_so() -> None:
    arrays = {key: array for key, array in genuine("pax_gqa_real").items() if not key.startswith("opt_")}
    arrays |= {LAYER.format(i) + SCALE: np.array([0.5, -0.25], np.float32) for i in range(2)}
    mapping = find_mapping("pax/lm", "te/pax")
    with pytest.raises(ConvkitError, match="--variant per_dim_scale=folded"):
        plan_of(mapping, arrays, format="torch")
    choices = {"per_dim_scale": "folded"}
    plan = plan_of(mapping, arrays, format="torch", choices=choices)
    made = carried(mapping, arrays, format="torch", choices=choices)
    ids = {"input_ids": torch.arange(16)[None]}
    added = {"positions": "sinusoidal"}
    pax = model("pax/lm", arrays, added).run(ids).outputs["lm"]
    folded = model("te/pax", made, {**plan.names, **plan.variant, **added}).run(ids).outputs["lm"]
    torch.testing.assert_close(folded, pax, rtol=0, atol=CLOSE)


def test_a_layer_without_its_scale_is_missing_it(tmp_path: Path) -> None:
    shutil.copytree(source(), tmp_path / "src")
    shutil.rmtree(tmp_path / "src" / (LAYER.format(1) + SCALE))
    assert te(tmp_path / "src", tmp_path / "te", "--direction=fw2te", "--weight-only") == 3


def test_stacked_layers_come_back(tmp_path: Path) -> None:
    arrays = stacked()
    mapping, options = find_mapping("pax/lm-repeat", "te/pax-repeat"), {"format": "torch", "choices": WEIGHTS}
    made = carried(mapping, arrays, **options)
    back = carried(inverse(mapping), made, format="torch", given={"heads": 2}, choices=WEIGHTS)
    key = "mdl_vars.params.lm.transformer.repeat.sub.x_layers_0.self_attention.combined_qkv.w"
    np.testing.assert_array_equal(back[key][:, 1:], arrays[key][:, 1:])
    scale = np.log1p(np.exp(arrays[key.replace("combined_qkv.w", "per_dim_scale.per_dim_scale")])) * 1.442695041
    np.testing.assert_allclose(back[key][:, 0], arrays[key][:, 0] * scale[:, None, None], rtol=3e-7)
