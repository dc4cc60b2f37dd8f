"""Casts of finite values that the dtype can't hold: counted by leaf, and refused unless they are allowed."""

from __future__ import annotations

import math
import re
import warnings
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from convkit.errors import ConvkitError
from convkit.mapping import Rule
from engine.disk import converted, read, write
from engine.memory import mapping_of

MAPPING = mapping_of(Rule("a", "x"), Rule("b", "y", "r c -> c r"))


def source(folder: Path, **b: Any) -> Path:
    values = np.ones((3, 4), "float32")
    values[1, 2], values[2, 3], values[0, 0] = b.get("large", (1e5, -2e5, 3))
    return write(folder / "left", {"a": np.arange(5, dtype="float32"), "b": values}, {})


def test_nothing_is_published_and_the_leaf_the_count_and_the_limits_are_named(tmp_path: Path) -> None:
    path = source(tmp_path)
    line = f"{path}: y: 2 finite values of up to 200000 can't be held by float16, whose largest value is 65504"
    with pytest.raises(ConvkitError, match=re.escape(line) + r".*--allow-overflow") as refusal:
        converted(path, tmp_path / "right", MAPPING, {"dtype": "float16"})
    assert refusal.value.exit_code == 3
    assert [found.name for found in tmp_path.iterdir()] == ["left"]


def test_it_can_be_allowed_and_the_receipt_and_the_plan_say_so(tmp_path: Path) -> None:
    asked = {"dtype": "float16", "allow_overflow": True}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        receipt = converted(source(tmp_path), tmp_path / "right", MAPPING, asked)
    made = read(tmp_path / "right")["y"]
    assert made.dtype == np.float16 and sorted(made[~np.isfinite(made)].tolist()) == [-math.inf, math.inf]
    assert receipt["plan"]["allow_overflow"] is True
    (said,) = [line for line in receipt["warnings"] if line.startswith("y: ")]
    assert said.startswith("y: 2 finite values of up to 200000")


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "float8_e5m2", "bfloat16"])
def test_every_narrow_dtype_has_its_own_limit(dtype: str, tmp_path: Path) -> None:
    top = float(ml_dtypes.finfo(dtype).max)
    path = source(tmp_path, large=(3.4e38, 2.0, 3.0))
    with pytest.raises(
        ConvkitError, match=rf"y: 1 finite value of up to 3.4e\+38 .* {dtype}, .* {top:g}".replace("e+", r"e\+")
    ):
        converted(path, tmp_path / "right", MAPPING, {"dtype": dtype})


def test_infinities_and_nans_of_the_source_are_no_overflow(tmp_path: Path) -> None:
    path = source(tmp_path, large=(math.inf, math.nan, 3.0))
    receipt = converted(path, tmp_path / "right", MAPPING, {"dtype": "float16"})
    assert not [line for line in receipt["warnings"] if "finite" in line]
    assert "allow_overflow" not in receipt["plan"]
