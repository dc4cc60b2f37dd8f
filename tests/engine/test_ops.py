"""Ops: an exact op restores every bit, a bounded one stays within its bound."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convkit.checkpoint import TensorSpec
from convkit.checkpoint.tensors import ITEMSIZE, carrier, value_dtype
from convkit.mapping.ops import EXACT, Cast, Exactness, Pad, Scale, Shift, bits_of

#: significand bits, exponent of the smallest subnormal
FLOATS = {
    "float8_e4m3fn": (4, -9),
    "float8_e5m2": (3, -16),
    "float16": (11, -24),
    "bfloat16": (8, -133),
    "float32": (24, -149),
    "float64": (53, -1074),
}


def every_value(dtype: str, seed: int = 0) -> np.ndarray:
    """All bit patterns of a narrow dtype, many of a wide one, in the carrier dtype."""
    bits = 8 * ITEMSIZE[dtype]
    if bits <= 16:
        return np.arange(1 << bits).astype(carrier(dtype))
    random = np.random.default_rng(seed)
    special = np.array([0, 1, 1 << (bits - 1)], np.uint64)
    spread = random.integers(0, 1 << bits, 100_000, np.uint64, endpoint=bits == 32)
    near_one = random.standard_normal(100_000).astype(dtype).view(carrier(dtype))
    quiet_or_not = np.array([np.inf, -np.inf, np.nan], dtype).view(carrier(dtype)) + np.array([0, 1, 5], carrier(dtype))
    return np.concatenate([special.astype(carrier(dtype)), spread.astype(carrier(dtype)), near_one, quiet_or_not])


def ulp_of(values: np.ndarray, dtype: str) -> np.ndarray:
    bits, smallest = FLOATS[dtype]
    return np.ldexp(np.longdouble(1), np.maximum(np.frexp(values)[1] - bits, smallest))


def values_of(data: np.ndarray, dtype: str) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return data.view(value_dtype(dtype)).astype(np.float64)


CASTS = [Cast(a, b) for a, b in itertools.permutations(FLOATS, 2)]


@pytest.mark.parametrize("cast", CASTS, ids=lambda cast: f"{cast.source}-{cast.target}")
def test_casts_keep_what_they_declare(cast: Cast) -> None:
    data = every_value(cast.source)
    there = cast.apply(data, cast.source)
    assert there.dtype == carrier(cast.target)
    before, after = values_of(data, cast.source), values_of(there, cast.target)
    assert np.all(np.isnan(after[np.isnan(before)]))
    assert np.array_equal(np.signbit(before), np.signbit(after))
    bound = cast.exactness(cast.source)
    fine = np.isfinite(before) & np.isfinite(after)
    assert np.all(np.abs(before[fine] - after[fine]) <= bound.ulp * ulp_of(after[fine], cast.target))
    if bound.exact:
        back = cast.inverse().apply(there, cast.target)
        assert back.tobytes() == data.tobytes(), "a declared exact cast lost bits, be they those of a NaN"


@pytest.mark.parametrize(("source", "target"), [(cast.source, cast.target) for cast in CASTS])
def test_exactness_of_a_cast_is_computed(source: str, target: str) -> None:
    exact = {
        ("float8_e4m3fn", "float16"), ("float8_e4m3fn", "bfloat16"), ("float8_e4m3fn", "float32"),
        ("float8_e4m3fn", "float64"), ("float8_e5m2", "float16"), ("float8_e5m2", "bfloat16"),
        ("float8_e5m2", "float32"), ("float8_e5m2", "float64"), ("float16", "float32"), ("float16", "float64"),
        ("bfloat16", "float32"), ("bfloat16", "float64"), ("float32", "float64"),
    }  # fmt: skip
    assert Cast(source, target).exactness(source).exact == ((source, target) in exact)


def test_a_nan_stays_one_and_keeps_what_it_can() -> None:
    data = np.array([0x7F800001, 0xFFC12345, 0x7FFFFFFF], np.uint32)
    there = Cast("float32", "bfloat16").apply(data, "float32")
    assert [hex(n) for n in there] == ["0x7fc0", "0xffc1", "0x7fff"]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("op", [Shift(1.0), Shift(-0.1), Scale(3.0), Scale(96**-0.5), Scale(0.25), Scale(49.0)])
def test_arithmetic_stays_within_its_bound(dtype: str, op: Shift | Scale) -> None:
    """Half an ulp of the result; there and back that much of each, in the size that it has by then."""
    data = every_value(dtype)
    there = op.apply(data, dtype)
    before, after, back = (values_of(x, dtype) for x in (data, there, op.inverse().apply(there, dtype)))
    middling = (np.abs(before) > 2.0**-100) & (np.abs(before) < 2.0**100) & np.isfinite(after) & np.isfinite(back)
    before, after, back = (x[middling].astype(np.longdouble) for x in (before, after, back))
    true, gain = (before + op.by, 1.0) if isinstance(op, Shift) else (before * op.by, op.by)
    bound = op.exactness(dtype)
    assert bound == (Exactness(0.5, dtype) if bound.ulp else EXACT)
    assert np.all(np.abs(after - true) <= bound.ulp * ulp_of(after, dtype))
    assert np.all(np.abs(back - before) <= bound.ulp * (ulp_of(after, dtype) / gain + ulp_of(back, dtype)))


def test_a_norm_shifted_by_one_is_not_exact_in_bfloat16() -> None:
    """What the original calls a conversion and back changes four of five weights."""
    weights = (np.random.default_rng(0).standard_normal(10_000) * 0.1).astype(value_dtype("bfloat16")).view(np.uint16)
    back = Shift(-1.0).apply(Shift(1.0).apply(weights, "bfloat16"), "bfloat16")
    assert np.mean(back != weights) > 0.8
    assert not Shift(1.0).exactness("bfloat16").exact


@given(st.floats(allow_nan=False, allow_infinity=False).filter(bool), st.booleans())
def test_an_inverse_undone_is_the_op(by: float, divide: bool) -> None:
    for op in (Shift(by), Scale(by, divide), Cast("float32", "bfloat16"), Pad(1, "to", by)):
        assert op.inverse().inverse() == op
        assert op.inverse() != op


@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64"])
@pytest.mark.parametrize("by", [0.5, 2.0, -4.0, 1.0])
def test_powers_of_two_are_exact(by: float, dtype: str) -> None:
    assert Scale(by).exactness(dtype) == EXACT
    data = every_value(dtype)
    size = np.abs(values_of(data, dtype))
    data = data[np.isnan(size) | (size == 0) | (size > 2.0**-100) & (size < 2.0**100)]
    assert Scale(by).inverse().apply(Scale(by).apply(data, dtype), dtype).tobytes() == data.tobytes()


@pytest.mark.parametrize("dtype", ["float16", "float8_e5m2"])
def test_powers_of_two_are_bounded_where_the_exponent_is_narrow(dtype: str) -> None:
    assert Scale(0.125).exactness(dtype) == Exactness(0.5, dtype)


@pytest.mark.parametrize(
    ("first", "second", "both"),
    [
        (EXACT, EXACT, EXACT),
        (EXACT, Exactness(0.5, "bfloat16"), Exactness(0.5, "bfloat16")),
        (Exactness(0.5, "bfloat16"), EXACT, Exactness(0.5, "bfloat16")),
        (Exactness(0.5, "float32"), Exactness(0.5, "bfloat16"), Exactness(1.0, "bfloat16")),
        (Exactness(0.5, "bfloat16"), Exactness(0.5, "float16"), Exactness(1.0, "bfloat16")),
    ],
)
def test_bounds_add_up_in_the_coarser_dtype(first: Exactness, second: Exactness, both: Exactness) -> None:
    assert first.then(second) == both


def test_padding_knows_its_shape_and_its_bits() -> None:
    pad = Pad(-1, "padded", -1.0)
    assert pad.padded(TensorSpec((3, 5), "bfloat16"), 8) == TensorSpec((3, 8), "bfloat16")
    assert bits_of(pad.fill, "bfloat16") == 0xBF80
    assert bits_of(pad.fill, "int8") == 0xFF
