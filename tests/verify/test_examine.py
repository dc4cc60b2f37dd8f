"""The second reading of the plan undoes whatever the executor makes of any mapping; no flipped bit passes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corruption import edit, flip_a_bit
from engine.disk import converted, write
from engine.memory import Arrays, Memory, carried, mapping_of, plan_of
from engine.strategies import Case, cases
from hypothesis import given, settings
from hypothesis import strategies as st

from convkit.checkpoint import TensorSpec
from convkit.checkpoint.tensors import value_dtype
from convkit.files.receipt import complement_path, read_receipt
from convkit.mapping import Mapping, Rule, inverse
from convkit.mapping.ops import Pad, Scale, Shift
from convkit.testing import bits
from convkit.verify.documents import Plan, read_plan
from convkit.verify.roundtrip.check import roundtrip
from convkit.verify.roundtrip.examine import Findings, examine
from convkit.verify.roundtrip.reconvert import Sides
from convkit.verify.verdict import Verdict


def random_bits(seed: int, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    return bits(TensorSpec(shape, dtype), seed).view(value_dtype(dtype)).reshape(shape)


def examined(mapping: Mapping, left: Arrays, right: Arrays, **options: Any) -> Findings:
    source = Memory(left)
    plan = json.loads(json.dumps(plan_of(mapping, source, **options).to_json()))
    return examine(read_plan(Plan, plan), Sides(source, Memory(right)))


@settings(deadline=None)
@given(st.lists(cases(), min_size=1, max_size=3), st.integers(0, 2**32), st.data())
def test_any_mapping_is_undone_and_any_flipped_bit_found(chosen: list[Case], seed: int, data: st.DataObject) -> None:
    rules, left = [], {}
    for number, case in enumerate(chosen):
        rules.append(Rule(f"l{number}{case.left.fields}", f"r{number}{case.right.fields}", case.pattern, **case.sizes))
        dtype = data.draw(st.sampled_from(["int8", "float16", "bfloat16", "float32", "int64", "complex128"]))
        left |= {f"l{number}{key}": random_bits(seed, dtype, shape) for key, (_, shape) in case.left.leaves.items()}
    mapping = mapping_of(*rules)
    right = {key: np.array(array) for key, array in carried(mapping, left).items()}
    found = examined(mapping, left, right)
    assert not found.problems and sorted(found.exact) == sorted(left)
    with_elements = [key for key, array in right.items() if array.size]
    if with_elements:
        raw = right[data.draw(st.sampled_from(with_elements))].reshape(-1).view(np.uint8)
        raw[data.draw(st.integers(0, raw.size - 1))] ^= 1 << data.draw(st.integers(0, 7))
        found = examined(mapping, left, right)
        assert len(found.problems) == 1 and ": 1 of " in found.problems[0]


@pytest.mark.parametrize("dtype", ("float64", "float32", "bfloat16", "float16"))
@pytest.mark.parametrize(
    "ops", ((Shift(-1.0),), (Scale(0.3),), (Scale(4.0),), (Scale(7.0).inverse(),), (Shift(0.1), Scale(3.0))), ids=str
)
def test_arithmetic_is_judged_by_its_bound(ops: tuple[Any, ...], dtype: str) -> None:
    mapping = mapping_of(Rule("w", "w", "a b -> b a", ops=ops))
    left = {"w": np.random.default_rng(0).normal(1, 0.5, (30, 20)).astype(value_dtype(dtype))}
    right = {key: np.array(array) for key, array in carried(mapping, left).items()}
    found = examined(mapping, left, right)
    assert not found.problems
    exact = ops == (Scale(4.0),) and dtype != "float16"  # whose exponents are few
    assert (found.exact, found.bounded) == ((["w"], []) if exact else ([], ["w"]))
    assert found.max_ulp <= found.bound and (found.bound == 0) == exact
    index = np.unravel_index(np.abs(right["w"].astype(float)).argmax(), right["w"].shape)
    right["w"][index] *= 1.1
    assert len(examined(mapping, left, right).problems) == 1


VOCABULARY = mapping_of(
    Rule("embed", "embed", "v d -> v d", ops=(Pad(0, "padded", -1.0),), v="vocab"), names=["vocab", "padded"]
)
SIZES = {"vocab": 23, "padded": 32}
ROWS = np.random.default_rng(0).standard_normal((32, 5)).astype("float32")


def judged(source: Path, target: Path, **options: Any) -> Verdict:
    receipt = read_receipt(target)
    assert receipt
    return roundtrip(source, target, receipt["plan"], receipt=receipt, **options)


def test_padding_must_be_the_fill(tmp_path: Path) -> None:
    source = write(tmp_path / "left", {"embed": ROWS[:23]}, SIZES)
    converted(source, tmp_path / "right", VOCABULARY)
    assert judged(source, tmp_path / "right").passed
    flip_a_bit(tmp_path / "right", "embed")
    assert judged(source, tmp_path / "right").problems == ("embed: 1 elements beyond 23 on axis 0 aren't -1",)


@pytest.mark.parametrize("dtype", (None, "bfloat16"))
def test_what_was_cropped_comes_back(dtype: str | None, tmp_path: Path) -> None:
    source = write(tmp_path / "left", {"embed": ROWS}, SIZES)
    target = tmp_path / "right"
    converted(source, target, inverse(VOCABULARY), asked={"dtype": dtype})
    verdict = judged(source, target, keep=tmp_path / "kept")
    assert verdict.passed, verdict.problems
    edit(complement_path(target), "embed#cropped", lambda array: array[::-1].copy())
    (problem,) = judged(source, target).problems
    assert problem.startswith("embed: 44 of 160 elements") and "the first at [23, 0]" in problem


def test_what_was_cropped_and_put_back_is_compared_with_the_complement(tmp_path: Path) -> None:
    converted(write(tmp_path / "left", {"embed": ROWS}, SIZES), tmp_path / "right", inverse(VOCABULARY))
    converted(tmp_path / "right", tmp_path / "back", VOCABULARY)
    assert judged(tmp_path / "right", tmp_path / "back").passed
    flip_a_bit(tmp_path / "back", "embed")
    (problem,) = judged(tmp_path / "right", tmp_path / "back").problems
    assert problem == "embed: 1 elements beyond 23 on axis 0 aren't embed#cropped of the complement"
    complement_path(tmp_path / "right").unlink()
    assert any("no complement holds it" in line for line in judged(tmp_path / "right", tmp_path / "back").problems)


def test_what_was_cropped_as_the_fill_is_filled_in_again(tmp_path: Path) -> None:
    rows = ROWS.copy()
    rows[23:] = -1.0
    source = write(tmp_path / "left", {"embed": rows}, SIZES)
    converted(source, tmp_path / "right", inverse(VOCABULARY))
    assert not complement_path(tmp_path / "right").exists()
    assert judged(source, tmp_path / "right").passed
