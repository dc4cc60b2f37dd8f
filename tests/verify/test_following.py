"""Leaves computed from other leaves, and leaves with others folded into them: made, read again, and restored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine.disk import converted, read, write
from engine.memory import LEFT, RIGHT, Arrays, Memory, assert_same, carried, mapping_of, plan_of
from hypothesis import given, settings
from hypothesis import strategies as st
from test_examine import examined, random_bits
from test_schemas import validator

from convkit.checkpoint.tensors import value_dtype
from convkit.errors import ConvkitError, PlanError
from convkit.execute.complement import find_complement
from convkit.files.receipt import complement_path
from convkit.mapping import Derived, Folded, Rule, inverse, pack
from convkit.verify.roundtrip.check import roundtrip

FLOATS = st.sampled_from(["float16", "bfloat16", "float32", "float64"])

# --- leaves that follow from others -----------------------------------------------------------------------

COUNTS = mapping_of(
    Rule("count", "rest.count"),
    Derived("right", "each.count", "repeated", of=("rest.count",), shape=("layers",), proven=True),
    names=("layers",),
)


@given(st.integers(1, 5), st.sampled_from(["int32", "uint8", "bfloat16"]), st.integers(0, 2**32))
def test_equal_copies(layers: int, dtype: str, seed: int) -> None:
    left = {"count": random_bits(seed, dtype, ())}
    right = carried(COUNTS, left, {"layers": layers})
    assert right["each.count"].tobytes() == left["count"].tobytes() * layers
    assert_same(carried(inverse(COUNTS), right, {"layers": layers}), left)


def test_copies_that_differ_are_not_dropped() -> None:
    right = {"rest.count": np.array(7, np.int32), "each.count": np.array([7, 8], np.int32)}
    plan = plan_of(inverse(COUNTS), right, {"layers": 2})
    with pytest.raises(ConvkitError, match="differs from 'repeated' of rest"):
        find_complement(Memory(right), plan)


def test_what_they_follow_from_must_be_there() -> None:
    right = {"each.count": np.array([7, 7], np.int32)}
    with pytest.raises(PlanError, match=r"each\.count is computed from it"):
        plan_of(mapping_of(*inverse(COUNTS).rules[1:], names=("layers",)), right, {"layers": 2})


def magnitudes(lead: int) -> Any:
    stack: tuple[str, ...] = ("layers",) if lead else ()
    return mapping_of(
        Rule("{n:a|b}.w", "{n}.kernel", "... x y -> ... y x"),
        Derived("right", "{n:a|b}.{t:i|g}", "filled", {"value": 1.0}, ("{n:a|b}.kernel",), (*stack, 2), "float32"),
        Derived("right", "{n:a|b}.w", "amax history", {}, ("{n:a|b}.kernel",), (*stack, "slots"), "float32"),
        Derived("right", "rows", "amax rows", {}, ("a.kernel", "b.kernel"), (*stack, 6, "slots"), "float32"),
        Derived("right", "max", "fp8 max", {}, ("a.kernel",), (*stack, 6, 1), "float32"),
        names=("layers", "slots"),
    )


@settings(deadline=None)
@given(FLOATS, st.integers(0, 3), st.integers(1, 4), st.integers(0, 2**32), st.data())
def test_magnitudes_of_kernels(dtype: str, layers: int, slots: int, seed: int, data: st.DataObject) -> None:
    mapping, lead = magnitudes(layers), (layers,) if layers else ()
    left = {f"{n}.w": random_bits(seed + i, dtype, (*lead, 3, 5)) for i, n in enumerate("ab")}
    config = {"layers": layers, "slots": slots}
    right = {key: np.array(array) for key, array in carried(mapping, left, config).items()}
    with np.errstate(all="ignore"):
        tops = {n: np.abs(left[f"{n}.w"]).max((-2, -1)).astype(np.float32) for n in "ab"}
    for row, n in ((1, "a"), (4, "b")):
        np.testing.assert_array_equal(right[f"{n}.w"][..., 0], tops[n])
        np.testing.assert_array_equal(right["rows"][..., row, 0], tops[n])
        assert not right[f"{n}.w"][..., 1:].any()
        assert (right[f"{n}.i"] == 1).all() and right[f"{n}.g"].shape == (*lead, 2)
    assert not right["rows"][..., [0, 2, 3, 5], :].any()
    np.testing.assert_array_equal(right["max"].reshape(-1, 6)[-1], [448, 448, 57344, 448, 448, 57344])
    assert not examined(mapping, left, right, config=config).problems
    made = data.draw(st.sampled_from(sorted(right.keys() - {"a.kernel", "b.kernel"})))
    right[made].reshape(-1).view(np.uint8)[data.draw(st.integers(0, right[made].nbytes - 1))] ^= 1
    assert [problem for problem in examined(mapping, left, right, config=config).problems if made in problem]


# --- leaves that others are folded into -------------------------------------------------------------------

FOLDED = mapping_of(
    Rule("qkv", "kernel", "... n d h -> ... d n h"),
    Folded("left", "qkv", "scale", "per-dim scale", {"parts": "parts"}, when="parts"),
    names=("parts",),
)


def scaled(dtype: str, layers: int, seed: int = 3) -> Arrays:
    random, lead = np.random.default_rng(seed), (layers,) if layers else ()
    kind = value_dtype(dtype)
    arrays = {"qkv": random.standard_normal((*lead, 3, 5, 4)), "scale": random.standard_normal((*lead, 4)) * 3}
    return {key: array.astype(kind) for key, array in arrays.items()}


@settings(deadline=None)
@given(FLOATS, st.integers(0, 3), st.sampled_from([1, 3]), st.integers(0, 2**32))
def test_what_is_folded_lies_within_its_bound(dtype: str, layers: int, parts: int, seed: int) -> None:
    left, config = scaled(dtype, layers, seed), {"parts": parts}
    right = {key: np.array(array) for key, array in carried(FOLDED, left, config).items()}
    factors = 1.442695041 * np.log1p(np.exp(left["scale"].astype(np.longdouble)))[..., None, None, :]
    exact = left["qkv"].astype(np.longdouble)
    first = slice(None) if parts == 1 else slice(1)
    exact[..., first, :, :] *= factors
    found = np.moveaxis(right["kernel"], -2, -3)
    np.testing.assert_allclose(found.astype(np.longdouble), exact, rtol=2.0**-7, atol=1e-6)
    if parts == 3:
        assert found[..., 1:, :, :].tobytes() == left["qkv"][..., 1:, :, :].tobytes()
    findings = examined(FOLDED, left, right, config=config)
    assert not findings.problems and findings.max_ulp <= findings.bound == (5.5 if dtype == "float64" else 1.0)


def on_disk(tmp_path: Path) -> tuple[Path, Path, dict[str, Any]]:
    source = write(tmp_path / "left.safetensors", scaled("float32", 2), {"parts": 3})
    target = tmp_path / "right.safetensors"
    return source, target, converted(source, target, FOLDED)


def test_the_complement_has_both_leaves_and_the_way_back_is_exact(tmp_path: Path) -> None:
    source, target, receipt = on_disk(tmp_path)
    assert sorted(read(complement_path(target))) == ["qkv", "scale"]
    assert {leaf["fate"] for leaf in receipt["plan"]["source_leaves"].values()} == {"folded", "left behind"}
    assert not receipt["plan"]["exact"] and not receipt["warnings"]
    verdict = roundtrip(source, target, receipt["plan"], receipt=receipt)
    assert verdict.passed and verdict.measured["leaves_exact"] == 2
    assert {fault.name for fault in verdict.faults} >= {"multiplied by another leaf", "one flipped bit"}
    back = tmp_path / "back.safetensors"
    again = converted(target, back, inverse(FOLDED))
    assert_same(read(back), read(source))
    assert roundtrip(target, back, again["plan"], receipt=again).passed


def test_without_its_complement_the_bound_is_what_is_proven(tmp_path: Path) -> None:
    source, target, receipt = on_disk(tmp_path)
    verdict = roundtrip(source, target, receipt["plan"])
    assert verdict.passed and verdict.measured["leaves_dropped"] == 2
    assert verdict.details["lost"]["qkv"] == "multiplied, and not kept"


@pytest.mark.parametrize("change", ["the product", "the complement", "a part that isn't multiplied"])
def test_what_is_wrong_is_seen(change: str, tmp_path: Path) -> None:
    source, target, receipt = on_disk(tmp_path)
    path = complement_path(target) if change == "the complement" else target
    arrays = read(path)
    wrong = arrays["qkv" if change == "the complement" else "kernel"]
    place = wrong[0, 0, 1] if change.startswith("a part") else wrong[0, 0, 0]
    steps = 3 if change == "the product" else 1
    for _ in range(steps):
        place[...] = np.nextafter(place, np.float32(100))
    path.unlink()
    write(path, arrays)
    verdict = roundtrip(source, target, receipt["plan"], receipt=receipt)
    assert [problem for problem in verdict.problems if problem.startswith("qkv:")]


def test_a_leaf_that_is_to_be_folded_must_be_there() -> None:
    with pytest.raises(PlanError, match="it is folded into qkv"):
        plan_of(FOLDED, {"qkv": scaled("float32", 0)["qkv"]}, {"parts": 3})


def test_in_a_pack_they_follow_from_their_own_component() -> None:
    packed = pack(LEFT, RIGHT, {"one": FOLDED, "two": COUNTS})
    left = {f"one.{key}": array for key, array in scaled("float32", 0).items()}
    left["two.count"] = np.array(7, np.int32)
    right = carried(packed, left, {"one": {"parts": 3}, "two": {"layers": 2}})
    alone = carried(FOLDED, scaled("float32", 0), {"parts": 3})
    np.testing.assert_array_equal(right["one.kernel"], alone["kernel"])
    np.testing.assert_array_equal(right["two.each.count"], np.array([7, 7], np.int32), strict=True)


@pytest.mark.parametrize("way", ["there", "back"])
def test_plans_with_folded_leaves_obey_the_schema(way: str, tmp_path: Path) -> None:
    _, target, receipt = on_disk(tmp_path)
    plan = receipt["plan"] if way == "there" else converted(target, tmp_path / "b.safetensors", inverse(FOLDED))["plan"]
    assert plan["steps"][0]["folded"]["side"] == ("source" if way == "there" else "target")
    validator("plan").validate(plan)
    del plan["steps"][0]["folded"]["by"]
    assert not validator("plan").is_valid(plan)


def test_a_plan_says_what_follows_from_what() -> None:
    plan = json.loads(json.dumps(plan_of(COUNTS, {"count": np.array(7, np.int32)}, {"layers": 2}).to_json()))
    validator("plan").validate(plan)
    assert plan["owed"] == [{"key": "each.count", "recipe": "repeated", "arguments": {}, "of": ["rest.count"]}]
    assert plan["target_leaves"]["each.count"]["origin"] == "derived"
