"""``diff`` finds every difference, and only differences, across formats and in bounded memory."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from convkit.errors import ConvkitError
from convkit.verify.diff import diff
from convkit.verify.ulps import Tally
from convkit.verify.verdict import Verdict

FLOATS = ["float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"]
SPECIAL = torch.tensor([0.0, -0.0, 1.0, -2.5, float("inf"), float("-inf"), float("nan"), 3e-40])


def folder(path: Path, tensors: dict[str, torch.Tensor]) -> Path:
    path.mkdir()
    save_file({key: value.clone() for key, value in tensors.items()}, path / "model.safetensors")
    return path


def compare(tmp_path: Path, a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> Verdict:
    verdict = diff(folder(tmp_path / "a", a), folder(tmp_path / "b", b))
    json.dumps(verdict.to_json(), allow_nan=False)
    return verdict


def test_the_same_bits_in_two_formats(tmp_path: Path) -> None:
    tensors = {name: SPECIAL.to(getattr(torch, name)) for name in FLOATS[:4]}
    tensors |= {"ids": torch.arange(5), "mask": torch.tensor([True, False]), "none": torch.zeros(0, 3)}
    torch.save(tensors, tmp_path / "b.pt")
    verdict = diff(folder(tmp_path / "a", tensors), tmp_path / "b.pt")
    assert verdict.passed, verdict.problems
    assert verdict.details["formats"] == {"source": "safetensors", "target": "torch"}
    assert verdict.details["compared_leaves"] == 7 and verdict.details["leaves"] == []


@pytest.mark.parametrize("dtype", FLOATS)
def test_one_ulp(dtype: str, tmp_path: Path) -> None:
    a = torch.full((3, 5), 1.5).to(getattr(torch, dtype))
    b = a.clone()
    width = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[a.element_size()]
    b.view(width)[1, 2] += 1
    verdict = compare(tmp_path, {"w": a}, {"w": b})
    assert not verdict.passed and verdict.problems == ("of different elements: w",)
    assert verdict.measured["max_ulp"] == verdict.measured["differing"] == 1
    assert verdict.measured["max_abs"] == (b.double() - a.double()).abs().max() > 0
    assert verdict.details["leaves"][0]["first"] == 7
    assert verdict.details["ulps"] == {dtype: {"0": 14, "1": 1}}


def test_distances_are_counted_by_powers_of_two(tmp_path: Path) -> None:
    a = torch.zeros(8, dtype=torch.int32)
    b = torch.tensor([0, 1, 2, 3, 4, 5, 8, 9], dtype=torch.int32)
    verdict = compare(tmp_path, {"w": (a + 2**30).view(torch.float32)}, {"w": (b + 2**30).view(torch.float32)})
    assert verdict.details["ulps"]["float32"] == {"0": 1, "1": 1, "2": 1, "3-4": 2, "5-8": 2, "9-16": 1}


def test_zeros_of_both_signs_are_two_values(tmp_path: Path) -> None:
    verdict = compare(tmp_path, {"w": torch.tensor([0.0])}, {"w": torch.tensor([-0.0])})
    assert not verdict.passed and verdict.measured["max_ulp"] == 1 and verdict.measured["max_abs"] == 0


def test_what_has_no_distance(tmp_path: Path) -> None:
    nan, inf = float("nan"), float("inf")
    other_nan = torch.tensor([0x7FC00001], dtype=torch.int32).view(torch.float32)
    a = torch.cat((torch.tensor([1.0, nan, inf, inf]), torch.tensor([nan])))
    b = torch.cat((torch.tensor([nan, 1.0, -inf, inf]), other_nan))
    verdict = compare(tmp_path, {"w": a}, {"w": b})
    assert not verdict.passed
    assert verdict.measured["incomparable"] == verdict.measured["differing"] == 4
    assert verdict.measured["max_abs"] == verdict.measured["max_ulp"] == 0


def test_integers(tmp_path: Path) -> None:
    low, high = torch.iinfo(torch.int64).min, torch.iinfo(torch.int64).max
    verdict = compare(tmp_path, {"w": torch.tensor([low, 7])}, {"w": torch.tensor([high, 7])})
    assert verdict.measured["max_ulp"] == 2**64 - 1 and verdict.measured["differing"] == 1
    assert verdict.details["ulps"]["int64"]["0"] == 1


def test_structure(tmp_path: Path) -> None:
    common = torch.arange(4.0)
    a = {"same": common, "lost": common, "wider": common.bfloat16(), "turned": torch.zeros(2, 3)}
    b = {"same": common, "new": common, "wider": common, "turned": torch.zeros(3, 2)}
    verdict = compare(tmp_path, a, b)
    assert not verdict.passed
    assert verdict.details["only_in_source"] == ["lost"] and verdict.details["only_in_target"] == ["new"]
    leaves = {leaf["key"]: leaf for leaf in verdict.details["leaves"]}
    assert leaves["wider"]["source"] == "bfloat16 [4]" and leaves["wider"]["differing"] == 0
    assert leaves["turned"]["target"] == "float32 [3, 2]" and "differing" not in leaves["turned"]
    assert len(verdict.problems) == 3


def test_dtypes_that_disagree_are_compared_by_value(tmp_path: Path) -> None:
    exact = torch.tensor([1.0, float("nan"), 1 + 2**-20])
    verdict = compare(tmp_path, {"w": exact}, {"w": exact.bfloat16()})
    assert verdict.measured["differing"] == 1 and verdict.measured["max_abs"] == 2**-20


def test_a_prefix_is_reported(tmp_path: Path) -> None:
    tensors = {"x.weight": torch.ones(2), "y.weight": torch.ones(2)}
    verdict = compare(tmp_path, {f"model.{key}": value for key, value in tensors.items()}, tensors)
    assert not verdict.passed and verdict.details["prefix"] == {"side": "source", "prefix": "model."}


def test_values_are_leaves_too(tmp_path: Path) -> None:
    for name, step in (("a.pt", 3), ("b.pt", 3), ("c.pt", 4)):
        torch.save({"model": {"w": torch.ones(2)}, "step": step}, tmp_path / name)
    assert diff(tmp_path / "a.pt", tmp_path / "b.pt").passed
    verdict = diff(tmp_path / "a.pt", tmp_path / "c.pt")
    assert not verdict.passed
    assert verdict.details["leaves"] == [{"key": "step", "source": "int 3", "target": "int 4"}]


def test_memory_is_bounded(tmp_path: Path) -> None:
    a = torch.ones(1 << 24)
    paths = [folder(tmp_path / name, {"w": tensor}) for name, tensor in (("a", a), ("b", a * 1.0001))]
    tracemalloc.start()
    verdict = diff(*paths)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert verdict.measured["differing"] == 1 << 24
    assert peak < 64 << 20


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConvkitError, match="no such file"):
        diff(folder(tmp_path / "a", {"w": torch.ones(1)}), tmp_path / "b")


@given(st.integers(0, 0xFFFF), st.integers(0, 0xFFFF))
def test_a_distance_is_a_number_of_steps(x: int, y: int) -> None:
    """Against the plain definition: neighbours by value, -0 below +0."""
    order = np.array([x, y], np.uint16)
    values = order.view(ml_dtypes.bfloat16).astype(np.float64)
    tally = Tally("bfloat16", "bfloat16")
    tally.add(order[:1], order[1:])
    signed = [int(bits & 0x7FFF) if bits < 0x8000 else -1 - int(bits & 0x7FFF) for bits in (x, y)]
    expected = abs(signed[0] - signed[1]) if np.isfinite(values).all() else 0
    assert tally.max_ulp == expected
    assert tally.differing == (x != y)
