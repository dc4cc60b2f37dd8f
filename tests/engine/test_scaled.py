"""Leaves that one layout multiplies by a declared number: read multiplied, and restored bit by bit."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from convkit.checkpoint.tensors import value_dtype
from convkit.errors import ConvkitError, PlanError
from convkit.files.receipt import complement_path, read_receipt
from convkit.formats import open_checkpoint
from convkit.mapping import Folded, Mapping, Rule, for_slots, inverse
from convkit.mapping.ops import Shift
from convkit.mapping.pattern import PatternError
from convkit.plan import open_source
from convkit.verify.roundtrip import roundtrip
from engine.disk import converted, read, write
from engine.memory import Arrays, assert_same, carried, mapping_of, plan_of
from engine.proof import judged, proven

#: in the left layout scores are scaled when the model runs, in the right one the weights hold the scales
MUP = mapping_of(
    Rule("l.{i}.{n:q|k}.{p:weight|bias?}", "h.{i}.qk.{p}", "n o ... -> (n o) ..."),
    Rule(("embed", "head"), ("E", "H")),
    Folded("left", "l.{i}.k.{p:weight|bias}", arguments={"factor": "key"}, when="mup"),
    Folded("left", "embed", arguments={"factor": "embed"}, when="mup"),
    axes={"i": "layers"},
    names=["layers", "mup", "key", "embed"],
)
CONFIG = {"layers": 2, "mup": True, "key": 1 / np.sqrt(6), "embed": 12}


def numbers(*shape: int, seed: int = 0, dtype: str = "float32") -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(value_dtype(dtype))


def model(dtype: str = "float32") -> Arrays:
    arrays: Arrays = {"embed": numbers(5, 3, dtype=dtype)}
    arrays["head"] = arrays["embed"].copy()
    for i in range(2):
        arrays |= {f"l.{i}.{n}.weight": numbers(4, 3, seed=i, dtype=dtype) for n in "qk"}
        arrays |= {f"l.{i}.{n}.bias": numbers(4, seed=i, dtype=dtype) for n in "qk"}
    return arrays


def scaled(array: np.ndarray, factor: float) -> np.ndarray:
    return (array.astype(np.float64) * factor).astype(array.dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_a_leaf_is_read_multiplied_and_comes_back(tmp_path: Path, dtype: str) -> None:
    """Also as one of several that are joined, and with another name."""
    left = model(dtype)
    right = proven(tmp_path, MUP, left, CONFIG)
    assert_same(
        right,
        {"E": scaled(left["embed"], 12), "H": scaled(left["embed"], 12)}
        | {
            f"h.{i}.qk.{p}": np.concatenate([left[f"l.{i}.q.{p}"], scaled(left[f"l.{i}.k.{p}"], CONFIG["key"])])
            for i in range(2)
            for p in ("weight", "bias")
        },
    )
    with open_checkpoint(complement_path(tmp_path / "right")) as kept:
        assert sorted(kept.leaves) == ["embed", *(f"l.{i}.k.{p}" for i in range(2) for p in ("bias", "weight"))]
    receipt = read_receipt(tmp_path / "right")
    assert receipt is not None
    assert {fault.name for fault in judged(tmp_path / "left", tmp_path / "right").faults} >= {
        "multiplied by another number",
        "one flipped bit",
    }


FACTORS = st.floats(-99, 99).filter(lambda factor: abs(factor) > 0.01)


@given(FACTORS, st.sampled_from(["float32", "bfloat16", "float16", "float64"]), st.integers(0, 99))
@example(1.0, "float32", 0)
@example(-0.5, "bfloat16", 1)
@settings(max_examples=12, deadline=None)
def test_any_number_is_undone(factor: float, dtype: str, seed: int) -> None:
    mapping = mapping_of(Rule("w", "u", "x y -> y x"), Folded("left", "w", arguments={"factor": "by"}), names=["by"])
    left = {"w": numbers(3, 4, seed=seed, dtype=dtype)}
    with TemporaryDirectory() as folder, np.errstate(over="ignore"):
        source = write(Path(folder) / "left", left, {"by": factor})
        receipt = converted(source, Path(folder) / "right", mapping)
        assert judged(source, Path(folder) / "right").faults
        assert bool(receipt["complement"]["tensors"]) == (factor != 1)
        converted(Path(folder) / "right", Path(folder) / "back", inverse(mapping))
        judged(Path(folder) / "right", Path(folder) / "back")
        assert_same(read(Path(folder) / "back"), left)


def test_the_number_one_changes_nothing() -> None:
    plan = plan_of(MUP, model(), CONFIG | {"key": 1.0, "embed": 1})
    assert plan.exact
    assert not plan.bound.left_behind


def test_nothing_is_multiplied_on_the_way_to_the_layout_that_multiplies() -> None:
    right = carried(MUP, model(), CONFIG)
    assert plan_of(inverse(MUP), right, CONFIG).exact


def test_what_was_multiplied_by_others_is_judged_within_its_bound(tmp_path: Path) -> None:
    """Nothing was kept: the leaves are lost, and what is there must be the product."""
    source = write(tmp_path / "left", model(), CONFIG)
    converted(source, tmp_path / "right", MUP)
    receipt = read_receipt(tmp_path / "right")
    assert receipt is not None
    verdict = roundtrip(source, tmp_path / "right", receipt["plan"])
    assert verdict.passed and verdict.details["lost"]["embed"] == "multiplied, and not kept"
    other = {**receipt["plan"], "steps": [_doubled(step) for step in receipt["plan"]["steps"]]}
    assert not roundtrip(source, tmp_path / "right", other).passed


def _doubled(step: dict[str, Any]) -> dict[str, Any]:
    if fold := step.get("folded"):
        return {**step, "folded": {**fold, "arguments": {"factor": 1.001 * fold["arguments"]["factor"]}}}
    return step


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_shifted_leaf_of_two_names_comes_back(tmp_path: Path, dtype: str) -> None:
    """What rounds is kept once, and both names have it again."""
    mapping = mapping_of(Rule(("a", "b"), "c", ops=(Shift(1.0),)))
    array = (numbers(300) * 1e-4).astype(value_dtype(dtype))
    assert_same(
        proven(tmp_path, mapping, {"a": array, "b": array.copy()}), {"c": (array.astype("f8") + 1).astype(array.dtype)}
    )


@pytest.mark.parametrize(
    ("rules", "config", "arrays", "why"),
    [
        ([], {"by": None}, {}, "None isn't a number"),
        ([], {"by": True}, {}, "True isn't a number"),
        ([], {"by": float("nan")}, {}, "nan isn't a number"),
        ([Folded("left", "{n:w|v}", arguments={"factor": 3})], {"by": 2}, {}, "w is multiplied already"),
        ([], {"by": 2}, {"w": np.arange(3)}, "is int64, so it can't be multiplied"),
    ],
)
def test_what_can_not_be_multiplied_is_refused(rules: list, config: dict, arrays: Arrays, why: str) -> None:
    mapping = mapping_of(Rule("w", "u"), Folded("left", "w", arguments={"factor": "by"}), *rules, names=["by"])
    with pytest.raises(PlanError, match=why):
        plan_of(mapping, {"w": numbers(3)} | arrays, config)


@pytest.mark.parametrize(
    "wrong",
    [
        {"arguments": {}},
        {"arguments": {"by": 2}},
        {"by": "x"},
        {"by": "x", "arguments": {"factor": 2}},
        {"recipe": "per-dim scale", "arguments": {"parts": 1}},
    ],
)
def test_a_rule_says_by_what(wrong: dict[str, Any]) -> None:
    with pytest.raises(PatternError, match="a number takes a 'factor', other recipes a second leaf"):
        Folded("left", "w", **wrong)


def test_moments_of_a_multiplied_leaf_can_not_follow() -> None:
    mapping = Mapping(MUP.left, MUP.right, MUP.rules, MUP.config, axes=MUP.axes)
    with pytest.raises(ConvkitError, match="the moments of a scaled tensor can't follow it"):
        for_slots(mapping, ["mu"], "{slot}.", "{slot}.")


def test_the_config_comes_back(tmp_path: Path) -> None:
    proven(tmp_path, MUP, model(), CONFIG)
    with open_source(tmp_path / "right") as right:
        assert right.config == CONFIG
