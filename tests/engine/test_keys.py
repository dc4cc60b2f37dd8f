"""Key templates: parsing, matching and formatting undo each other."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convkit.mapping.keys import KeyTemplate
from engine.strategies import templates


@given(templates())
def test_match_undoes_format(sample: tuple) -> None:
    text, bindings, names = sample
    template = KeyTemplate.parse(text)
    assert template.match(template.format(bindings, names), names) == bindings


@given(templates(), st.text())
def test_format_undoes_match(sample: tuple, key: str) -> None:
    text, bindings, names = sample
    template = KeyTemplate.parse(text)
    for candidate in (key, template.format(bindings, names) + key, key + template.format(bindings, names)):
        bound = template.match(candidate, names)
        assert bound is None or template.format(bound, names) == candidate


@given(templates())
def test_a_template_is_its_text(sample: tuple) -> None:
    template = KeyTemplate.parse(sample[0])
    assert str(template) == sample[0]
    assert template.under("x.{i}.") == KeyTemplate.parse("x.{i}." + sample[0])


@pytest.mark.parametrize(
    ("text", "key", "bound"),
    [
        ("layers.{i}.w", "layers.0.w", {"i": 0}),
        ("layers.{i}.w", "layers.10.w", {"i": 10}),
        ("layers.{i}.w", "layers.01.w", None),
        ("layers.{i}.w", "layers.-1.w", None),
        ("layers.{i}.w", "layers.1٢.w", None),
        ("layers.{i}.w", "layers..w", None),
        ("layers.{i}.w", "layers.1.w.extra", None),
        ("layers.{i}.w", "x.layers.1.w", None),
        ("layers.{i}.w", "layers.1.w\n", None),
        ("layers.{i}.w", "layers.1xw", None),
        ("x.{p:weight|bias?}", "x.bias", {"p": "bias"}),
        ("x.{p:weight|bias?}", "x.bias?", None),
        ("{a:x|xy}{b:z|yz}", "xyz", {"a": "x", "b": "yz"}),
        ("{g:ga.te|up}", "gaxte", None),
        ("{i}.{i}", "3.3", {"i": 3}),
        ("{i}.{i}", "3.4", None),
        ("{g:q|k}.{g}", "k.k", {"g": "k"}),
        ("act.{2i}.w", "act.6.w", {"i": 3}),
        ("act.{2i}.w", "act.0.w", {"i": 0}),
        ("act.{2i}.w", "act.5.w", None),
        ("{2i}.{2i}", "4.4", {"i": 2}),
        ("{g:q|k}.{g}", "q.k", None),
        ("{rest:*}", "anything.at all", {"rest": "anything.at all"}),
        ("{rest:*}", "", None),
        ("a.{rest:*}.z", "a.b.z.z", {"rest": "b.z"}),
    ],
)
def test_match(text: str, key: str, bound: dict | None) -> None:
    assert KeyTemplate.parse(text).match(key, {}) == bound


def test_a_declared_name_is_no_axis() -> None:
    template = KeyTemplate.parse("p#{=layers}#i-1_2.{i}")
    assert template.match("p#24#i-1_2.7", {"layers": 24}) == {"i": 7}
    assert template.match("p#12#i-1_2.7", {"layers": 24}) is None
    assert template.format({"i": 7}, {"layers": 24}) == "p#24#i-1_2.7"
    assert list(template.axes) == ["i"]


def test_a_declared_name_may_be_a_components() -> None:
    template = KeyTemplate.parse("{=text.prefix}w.{=n}")
    assert template.match("model.w.3", {"text.prefix": "model.", "n": 3}) == {}
    assert template.format({}, {"text.prefix": "", "n": 4}) == "w.4"
    with pytest.raises(ValueError, match="a brace that doesn't belong to a placeholder"):
        KeyTemplate.parse("{text.i}")


def test_a_declared_name_is_taken_literally() -> None:
    template = KeyTemplate.parse("{=prefix}w")
    assert template.match("model.w", {"prefix": "model."}) == {}
    assert template.match("modelxw", {"prefix": "model."}) is None


def test_choices_keep_their_order_and_their_marks() -> None:
    field = KeyTemplate.parse("{p:weight|bias?|scale}").placeholders["p"]
    assert field.choices == ("weight", "bias", "scale")
    assert field.optional == {"bias"}


@pytest.mark.parametrize(
    "text",
    [
        "layers.{i.w",
        "layers.i}.w",
        "layers.{}.w",
        "{0}",
        "{2i:a|b}",
        "{0i}",
        "{2i}.{i}",
        "{i}.{2i}",
        "{p:}",
        "{p:a||b}",
        "{p:a|?}",
        "{p:a|a}",
        "{p:a|a?}",
        "{=p:a|b}",
        "{p:a|b}.{p:b|a}",
        "{p:a|b}.{=p}",
        "{=p}.{p}",
        "{p}.{p:a}",
        "{p}.{p:*}",
    ],
)
def test_a_wrong_template_is_refused_with_its_text(text: str) -> None:
    with pytest.raises(ValueError, match=r".") as refusal:
        KeyTemplate.parse(text)
    assert repr(text) in str(refusal.value)
