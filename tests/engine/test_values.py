"""What a field may hold: numbers are read exactly however they are spelled, and everything else is refused."""

from __future__ import annotations

import json
import math
from fractions import Fraction
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from convkit.config import ANYTHING, COUNT, FLAG, LIST, NUMBER, POSITIVE, RATE, SECTION, TEXT, WHOLE, Kind

KINDS = (COUNT, WHOLE, NUMBER, POSITIVE, RATE, FLAG, TEXT, SECTION, LIST, ANYTHING)
ANY_VALUE = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9)
    | st.lists(st.integers(), max_size=2) | st.dictionaries(st.text(max_size=2), st.integers(), max_size=2)
)  # fmt: skip
FINITE = st.floats(allow_nan=False, allow_infinity=False)


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (COUNT, "16", 16),
        (COUNT, 64.0, 64),
        (COUNT, "1e6", 1000000),
        (COUNT, "1.0e6", 1000000),
        (WHOLE, "9007199254740993e0", 9007199254740993),  # no float is this number
        (WHOLE, "-1", -1),
        (WHOLE, 10**30, 10**30),
        (NUMBER, "1e-5", 1e-5),
        (NUMBER, "1e6", 1e6),
        (NUMBER, " .5 ", 0.5),
        (RATE, "0", 0),
        (COUNT.or_null, None, None),
        (ANYTHING, math.inf, math.inf),
    ],
)
def test_spellings_of_a_value(kind: Kind, value: Any, expected: Any) -> None:
    found = kind.read(value)
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("kind", "value", "why"),
    [
        (COUNT, 0, "is 0, less than 1"),
        (COUNT, "-1", "is -1, less than 1"),
        (COUNT, 1.5, "is 1.5, which isn't a whole number"),
        (COUNT, True, "is True, which isn't a whole number"),
        (COUNT, None, "is null, which isn't a whole number"),
        (COUNT, "1e-5", "is '1e-5', which isn't a whole number"),
        (COUNT, 10**30, "more than 2147483647"),
        (COUNT, "016", "is '016', which isn't a whole number"),  # YAML 1.1 reads 14, others 16
        (COUNT, "9" * 5000, "which isn't a whole number"),
        (NUMBER, math.nan, "is nan, which isn't a number"),
        (NUMBER, -math.inf, "is -inf, which isn't a number"),
        (NUMBER, 10**400, "which isn't a number"),
        (NUMBER, "1e999", "is '1e999', which isn't a number"),
        (NUMBER, "1e-999", "is '1e-999', which isn't a number"),  # a float is 0 there
        (NUMBER, "", "is '', which isn't a number"),
        (NUMBER, [1], "is [1], which isn't a number"),
        (RATE, 1.1, "is 1.1, more than 1"),
        (POSITIVE, "0.0", "is 0.0, not above 0"),
        (FLAG, "false", "is 'false', which isn't a boolean"),
        (FLAG, 1, "is 1, which isn't a boolean"),
        (FLAG, None, "is null, which isn't a boolean"),
        (TEXT, 3, "is 3, which isn't text"),
        (SECTION, [], "is [], which isn't a section"),
        (LIST, {}, "is {}, which isn't a list"),
    ],
)
def test_what_is_no_value_is_refused(kind: Kind, value: Any, why: str) -> None:
    with pytest.raises(ValueError, match=r".") as refusal:
        kind.read(value)
    assert why in str(refusal.value)
    assert len(str(refusal.value)) < 120


@given(ANY_VALUE, st.sampled_from(KINDS))
def test_reading_is_idempotent_and_never_anything_else(value: Any, kind: Kind) -> None:
    try:
        found = kind.read(value)
    except ValueError:
        return
    assert kind.read(found) is found
    if kind in (COUNT, WHOLE):
        assert type(found) is int
    if kind in (NUMBER, POSITIVE, RATE):
        assert type(found) in (int, float) and math.isfinite(found)
    if type(value) in (int, float) and not (kind in (COUNT, WHOLE) and type(value) is float):
        assert found is value, "a number that is one already stays as it is"


@given(st.integers(-(10**40), 10**40) | FINITE)
def test_a_number_in_quotes_is_that_number(number: float) -> None:
    for text in (json.dumps(number), repr(number).replace("e+", "e")):
        found = NUMBER.read(text)
        assert (found, type(found)) == (number, type(number))
        if Fraction(text).denominator == 1:
            assert WHOLE.read(text) == Fraction(text)


@given(st.integers(-9, 9), st.integers(-300, 300), st.sampled_from(["", "+"]))
def test_what_yaml_takes_for_text_is_read(digit: int, exponent: int, sign: str) -> None:
    spelled = f"{digit}e{sign if exponent >= 0 else ''}{exponent}"
    read = yaml.safe_load(spelled)
    assert read == spelled, "YAML 1.1 wants a dot and a sign"
    assert NUMBER.read(read) == float(spelled)
