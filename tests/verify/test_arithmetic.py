"""Steps that change values: the executor's ops are undone within their declared bound."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from convkit.checkpoint.tensors import ITEMSIZE, carrier, value_dtype
from convkit.mapping.ops import EXACT, Cast, Elementwise, Scale, Shift
from convkit.plan.plan_json import exactness_in, op_in
from convkit.verify import documents
from convkit.verify.documents import Step, read
from convkit.verify.roundtrip.arithmetic import bound, differing, distance, fill_bits, undo

FLOATS = ("float8_e4m3fn", "float8_e5m2", "float16", "bfloat16", "float32", "float64")


def through(ops: tuple[Elementwise, ...], data: np.ndarray, dtype: str) -> tuple[np.ndarray, str, Step]:
    """What the executor would write, its dtype, and the step in the plan; exactness added up as the plan does."""
    exactness, result = EXACT, dtype
    for op in ops:
        exactness = exactness.then(op.exactness(result))
        data, result = op.apply(data, result), op.dtype(result)
    side = [{"key": "any", "axes": "a", "at": {}}]
    step = {"rule": "any", "sources": side, "targets": side, "sizes": {"a": data.size}}
    step |= {
        "exactness": msgspec.to_builtins(exactness_in(exactness)),
        "ops": [msgspec.to_builtins(op_in(op)) for op in ops],
    }
    return data, result, read(Step, step)


def carried(values: Any, dtype: str) -> np.ndarray:
    return np.asarray(values, np.float64).reshape(-1).astype(value_dtype(dtype)).view(carrier(dtype))


def values(data: np.ndarray, dtype: str) -> np.ndarray:
    return data.view(value_dtype(dtype)).astype(np.float64)


@st.composite
def ops(draw: st.DrawFn, dtype: str) -> tuple[Elementwise, ...]:
    by = st.floats(0.01, 100).map(float)
    arithmetic: Elementwise = draw(st.one_of(st.builds(Shift, by), st.builds(Scale, by)))
    cast = Cast(dtype, draw(st.sampled_from(FLOATS)))
    return draw(st.sampled_from([(arithmetic,), (cast,), (arithmetic, cast)]))


@settings(deadline=None)
@given(st.data(), st.sampled_from(FLOATS), st.integers(0, 2**32 - 1))
def test_ops_are_undone_within_their_bound(data: st.DataObject, dtype: str, seed: int) -> None:
    source = carried(np.random.default_rng(seed).normal(0, 4, 50), dtype)
    chain = data.draw(ops(dtype))
    target, result, step = through(chain, source, dtype)
    assume(np.isfinite(values(target, result)).all() and np.isfinite(values(source, dtype)).all())
    back = undo(target, step.ops, dtype, result)
    if step.exactness == "exact":
        assert bound(step) == 0 and not differing(source, back, step.ops, dtype).any()
    else:
        assert distance(source, back, dtype, step).max() <= bound(step)


@pytest.mark.parametrize(
    "wide, narrow", [("float32", "bfloat16"), ("float32", "float16"), ("bfloat16", "float8_e4m3fn")]
)
def test_a_cast_is_off_by_half_an_ulp_at_most_and_a_whole_one_is_seen(wide: str, narrow: str) -> None:
    source = carried(np.random.default_rng(0).normal(0, 1, 1000), wide)
    target, _, step = through((Cast(wide, narrow),), source, wide)
    assert bound(step) == 0.5
    assert 0.4 < distance(source, undo(target, step.ops, wide, narrow), wide, step).max() <= 0.5
    target[500] ^= 1
    apart = distance(source, undo(target, step.ops, wide, narrow), wide, step)
    assert np.flatnonzero(apart > 0.5).tolist() == [500] and 0.5 < apart[500] <= 1.5


def test_what_overflowed_is_infinitely_far_away() -> None:
    source = carried([1.0, 1e6, -np.inf, np.nan], "float32")
    target, _, step = through((Cast("float32", "float16"),), source, "float32")
    apart = distance(source, undo(target, step.ops, "float32", "float16"), "float32", step)
    assert apart.tolist() == [0.0, np.inf, 0.0, 0.0]


@given(st.sampled_from(sorted(ITEMSIZE)), st.integers(0, 2**32 - 1))
@example("complex128", 0)
def test_without_ops_any_bit_counts(dtype: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    source = random.integers(0, 256, 6 * ITEMSIZE[dtype], np.uint8).view(carrier(dtype))
    other = source.copy()
    assert not differing(source, other, (), dtype).any()
    other.view(np.uint8)[random.integers(other.nbytes)] ^= 1 << random.integers(8)
    assert differing(source, other, (), dtype).sum() == 1


def test_with_ops_values_count() -> None:
    """A NaN is a NaN, and the two zeros are two."""
    widen = [{"op": "cast", "from": "bfloat16", "to": "float32"}]
    bits = np.array([0x7FC0, 0x0000, 0x3F80], np.uint16)
    other = np.array([0xFFC1, 0x8000, 0x3F80], np.uint16)
    assert differing(bits, other, widen, "bfloat16").tolist() == [False, True, False]
    assert differing(bits, other, (), "bfloat16").tolist() == [True, True, False]


def test_the_fill_goes_through_the_ops() -> None:
    chain = [documents.Shift(1.0), documents.Cast("float32", "bfloat16")]
    assert fill_bits(2.0, "float16") == carried(2.0, "float16")[0]
    assert fill_bits(0.0, "float32", chain, "bfloat16") == carried(1.0, "bfloat16")[0]
