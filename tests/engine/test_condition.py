"""Conditions are parsed once, evaluated, and scoped to a component's names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convkit.config.condition import Condition
from convkit.mapping import LeftBehind, Rule
from convkit.mapping.pattern import PatternError

NAMES = {"a": 0, "b": 2, "c": "model.", "d.e": True}
PARTS = st.sampled_from(["a", "!a", "b", "!b", "b>1", "b<2", "b>-1", "c=model.", "c=", "c= other", "d.e", "! d.e"])


@given(st.lists(PARTS, max_size=4))
def test_all_parts_must_hold(parts: list[str]) -> None:
    truth = {"!a", "b", "b>1", "b>-1", "c=model.", "d.e"}
    condition = Condition.parse(" & ".join(parts))
    assert condition.holds(NAMES) == all(part in truth for part in parts)
    assert Condition.parse(str(condition)) == condition


@given(st.lists(PARTS, max_size=4), st.sampled_from(["text.", "a.b."]))
def test_a_scoped_condition_asks_the_scoped_names(parts: list[str], scope: str) -> None:
    condition = Condition.parse(" & ".join(parts))
    scoped = {f"{scope}{name}": value for name, value in NAMES.items()}
    assert condition.scoped(scope).holds(scoped) == condition.holds(NAMES)
    with pytest.raises(KeyError):
        Condition.parse("a").scoped(scope).holds(NAMES)


@pytest.mark.parametrize("text", ["a b", "a &", "& a", "!", "a>x", "a<", "!a=b", "=b", "tied and b"])
def test_what_is_no_condition_is_refused_where_it_is_declared(text: str) -> None:
    with pytest.raises(ValueError, match="isn't a"):
        Condition.parse(text)
    with pytest.raises(PatternError, match=r"rule a <-> b: .* isn't a"):
        Rule("a", "b", when=text)
    with pytest.raises(PatternError, match=r"rule a stays behind: .* isn't a"):
        LeftBehind("left", "a", "unused", when=text)
