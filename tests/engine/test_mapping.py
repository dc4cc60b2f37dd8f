"""Mappings are values: rules are bijections before they meet a checkpoint, and the algebra holds."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from copy import deepcopy
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct
from msgspec.structs import replace

from convkit.errors import ConvkitError
from convkit.mapping import (
    AnyRule,
    Chain,
    Derived,
    Fact,
    LeftBehind,
    Mapping,
    Measure,
    Rule,
    Variant,
    Verbatim,
    compose,
    for_slots,
    inverse,
    under,
)
from convkit.mapping.declaration import Declaration, Roles, as_it_is, condition, keys, own_side
from convkit.mapping.ops import Pad, Scale, Shift
from convkit.mapping.pattern import PatternError
from convkit.mappings import all_mappings
from engine.memory import RIGHT, assert_same, carried, mapping_of
from engine.strategies import Case, cases

RULES = (
    Rule("{=a}x.{i}.{p:weight|bias?}", "y.{i}.{p}", "(h two r) ... -> (h r two) ...", h="heads", two=2),
    Rule("qkv.{i}", "{n:q|k}.{i}", "(q+k) d -> {n} d", q="heads"),
    Rule(("t", "tied"), ("u", "v"), " a  b->b a", when="tied"),
    Rule("x", "policy.x", right_copies="reference.x", optional=True),
    Rule("norm", "norm", ops=(Shift(1.0), Scale(49.0))),
    Rule("embed", "embed", "v d -> v d", ops=(Pad(0, "padded"),), v="vocab"),
    Rule("{g:a|b}.w", "{g}.u", {"a": "(x y) -> (y x)", "b": "x -> x"}, x=2),
    Derived("left", "{=a}inv_freq", "inverse frequencies", {"theta": "theta", "dim": 4}),
    LeftBehind("right", "{rest:*}", "no part of the model", unless="y."),
    Verbatim("same.{i}"),
)
WHOLE = mapping_of(
    *RULES,
    names=["heads", "vocab", "padded", "tied", "theta", "layers"],
    variants=(Variant("a", "left", ("model.", ""), "{=a}x.{i}.weight", headless=""),),
    facts=(Fact("bias", "{=a}x.{i}.bias", "y.{i}.bias"),),
    measures=(Measure("vocab", ("embed", 0), None),),
    axes={"i": "layers"},
)


@pytest.mark.parametrize("mapping", [WHOLE, *all_mappings()], ids=lambda mapping: mapping.name)
def test_inverting_twice_is_the_identity(mapping: Mapping) -> None:
    assert inverse(inverse(mapping)) == mapping
    assert inverse(mapping) != mapping
    assert (inverse(mapping).left, inverse(mapping).right) == (mapping.right, mapping.left)


@given(cases())
def test_a_generated_rule_is_a_bijection_both_ways(case: Case) -> None:
    rule = Rule(f"l{case.left.fields}", f"r{case.right.fields}", case.pattern, **case.sizes)
    back = rule.inverse()
    assert back.inverse() == rule
    assert back == Rule(f"r{case.right.fields}", f"l{case.left.fields}", back.pattern, **case.sizes)


@given(st.lists(st.tuples(cases(), st.sampled_from(["", ".{i}"])), min_size=1, max_size=3), st.integers(0, 2**32))
@settings(max_examples=60)
def test_a_generated_mapping_carries_what_brute_force_carries(chosen: list[tuple[Case, str]], seed: int) -> None:
    """Elements with equal labels are equal, in every leaf of every rule, and the inverse brings all back."""
    rules = []
    left, right = {}, {}
    random = np.random.default_rng(seed)
    for number, (case, loop) in enumerate(chosen):
        names = (f"l{number}{loop}{case.left.fields}", f"r{number}{loop}{case.right.fields}")
        rules.append(Rule(*names, case.pattern, **case.sizes))
        for i in range(2 if loop else 1):
            middle = f".{i}" if loop else ""
            values = {}
            for key, (labels, shape) in case.left.leaves.items():
                data = random.integers(0, 2**16, len(labels)).astype(np.uint16)
                values |= dict(zip(labels, data, strict=True))
                left[f"l{number}{middle}{key}"] = data.reshape(shape)
            for key, (labels, shape) in case.right.leaves.items():
                right[f"r{number}{middle}{key}"] = np.array([values[x] for x in labels], np.uint16).reshape(shape)
    mapping = mapping_of(*rules)
    assert_same(carried(mapping, left), right)
    assert_same(carried(inverse(mapping), right), left)


@pytest.mark.parametrize(
    ("left", "right", "pattern", "why"),
    [
        ("a", "b", "x y -> x", "is not a bijection: left has x·y; right has x"),
        ("a", "b", "x -> x y", "is not a bijection"),
        ("a", "b", "(x + y) -> x", "is not a bijection: left has x, y; right has x"),
        ("a", "b", "x x -> x x", "appears twice in one piece"),
        ("a", "b", "(x + x) -> (x + x)", "has the same piece twice on the left"),
        ("a", "b", "(1 + 1) -> (1 + 1)", "has the same piece twice"),
        ("a", "b", "x ... -> x", "is not a bijection"),
        ("a.{i}", "b", "x -> x", "'{i}' stands on one side and isn't an axis of the other"),
        ("a.{i}", "b", "(i x) -> i x", "'{i}' stands on one side"),
        ("a.{i}", "b", "i x -> x", "is not a bijection"),
        ("a.{n:q|k}", "b", "x -> x", "has the same piece twice on the left"),
        ("a.{n:q|k}", "b", "{n} x -> (q + v) x", "is not a bijection"),
        ("a", "b.{n:q|k}", "(q + k) -> q: q", "no branch for"),
        ("a.{n:q|k}", "b.{n:k|q}", "x -> x", "must have the same choices on both"),
        ("a.{i}", "b.{i}", "{i} x -> x", "isn't a placeholder of only this side's keys"),
        ("a", "b", "q: x -> x", "no branch for"),
        ("a.{n:q|k}.{e}", "b", "q: e x | k: (e y) -> e (x + y)", "'{e}' stands on one side and isn't an axis"),
        ("a.{i}", "b.{i}", "i x -> i x", "'{i}' stands in the keys of both sides, so it isn't an axis"),
        (("a.{i}", "b"), "c.{i}", "x -> x", "names of one leaf must have the same placeholders"),
        ("a.{rest:*}", "b", "... -> ...", "doesn't determine the name on the other side"),
        ("a", "b.{rest:*}", "... -> ...", "doesn't determine the name on the other side"),
        ("a.{rest:*}", "b.{other:*}", "... -> ...", "doesn't determine the name on the other side"),
        ("a.{rest:*}", "b.{rest}", {"x": "x -> x"}, "branches x are not the choices"),
        ("a.{g:q|k}", "b.{g}", {"q": "x -> x"}, "branches q are not the choices of a placeholder"),
        ("a.{g:q|k}", "b.{g}", {"q": "x -> x", "v": "x -> x"}, "are not the choices"),
        ("a", "b", "(x -> x", "isn't closed"),
    ],
)  # fmt: skip
def test_what_is_no_bijection_is_refused_when_it_is_declared(left, right, pattern, why: str) -> None:
    with pytest.raises(PatternError) as refusal:
        Rule(left, right, pattern)
    assert why in str(refusal.value)
    assert str(refusal.value).startswith("rule a") or isinstance(left, tuple)


@pytest.mark.parametrize("ops", [(Pad(0, "to"), Pad(1, "to")), (Pad(0, "to"), Shift(1.0)), (Scale(2.0), Pad(0, "to"))])
def test_padding_stands_alone(ops: tuple) -> None:
    with pytest.raises(PatternError, match="a rule that pads can't pad twice, shift or scale"):
        Rule("a", "b", "x -> x", ops=ops)


def test_a_size_is_of_an_axis() -> None:
    with pytest.raises(PatternError, match="'optinal' is given a size"):
        Rule("a", "b", "x y -> y x", optinal=True)
    assert Rule("a.{i}", "b.{i}", "x -> x", x=3, i="layers").sizes == (("i", "layers"), ("x", 3))
    assert Rule("a.{n:q|k}", "b", "{n} x -> (q + k) x", q=3)


def test_padding_is_of_one_leaf() -> None:
    with pytest.raises(PatternError, match="a rule that pads carries one leaf into one"):
        Rule("a.{n:q|k}", "b", "n x -> (n x)", ops=(Pad(0, "to"),))
    assert Rule("a.{i}", "b.{i}", "x -> x", ops=(Pad(0, "to"),))


def test_ops_are_undone_in_reverse() -> None:
    rule = Rule("a", "b", ops=(Shift(1.0), Scale(8.0)))
    assert rule.inverse().ops == (Scale(8.0, divide=True), Shift(-1.0))
    left = {"a": np.arange(-5, 5, dtype="float32")}
    right = carried(mapping_of(rule), left)
    assert np.array_equal(right["b"], (left["a"] + 1) * 8)
    assert_same(carried(inverse(mapping_of(rule)), right), left)


def test_choices_are_said_once() -> None:
    rule = Rule("a.{p:weight|bias?}", "b.{p}")
    assert rule.right == ("b.{p:weight|bias?}",)
    assert str(rule) == "a.{p:weight|bias?} <-> b.{p:weight|bias?}"


def test_under_is_the_rule_below_a_prefix() -> None:
    found = under("model.{i}.", "h.{i}.", [Rule("w", "u", "x y -> y x"), LeftBehind("left", "gone", "why", unless="g")])
    assert found == (
        Rule("model.{i}.w", "h.{i}.u", "x y -> y x"),
        LeftBehind("left", "model.{i}.gone", "why", unless="model.{i}.g"),
    )
    assert under("a.", "b.", under("c.", "d.", RULES[:8])) == under("a.c.", "b.d.", RULES[:8])
    with pytest.raises(PatternError, match=r"can't stand below"):
        under("a.", "b.", [Verbatim("x")])


def test_inverse_and_under_commute() -> None:
    for rule in RULES[:9]:
        assert rule.under("a.", "b.").inverse() == rule.inverse().under("b.", "a.")


def test_slots_follow_their_parameters() -> None:
    """Moments are rearranged as the weights are; a norm's shift isn't theirs; nothing of them is left behind."""
    mapping = mapping_of(
        Rule("w", "u", "x y -> y x"),
        Rule("norm", "norm", ops=(Shift(1.0),)),
        LeftBehind("left", "{rest:*}", "no part of the model"),
    )
    whole = for_slots(mapping, ["mu", "nu"], "opt.{slot}.", "state.{slot}.params.")
    left = {
        f"{prefix}{key}": np.random.default_rng(len(prefix)).standard_normal(shape).astype("float32")
        for prefix in ("", "opt.mu.", "opt.nu.")
        for key, shape in (("w", (2, 3)), ("norm", (4,)))
    } | {"step": 3}
    found = carried(whole, left)
    assert sorted(found) == sorted(
        f"{prefix}{key}" for prefix in ("", "state.mu.params.", "state.nu.params.") for key in ("u", "norm")
    )
    assert np.array_equal(found["norm"], left["norm"] + 1)
    for slot in ("mu", "nu"):
        assert np.array_equal(found[f"state.{slot}.params.u"], left[f"opt.{slot}.w"].T)
        assert np.array_equal(found[f"state.{slot}.params.norm"], left[f"opt.{slot}.norm"])
    assert inverse(inverse(whole)) == whole


def test_moments_of_a_scaled_tensor_are_refused() -> None:
    with pytest.raises(ConvkitError, match="the moments of a scaled tensor can't follow it"):
        for_slots(mapping_of(Rule("w", "u", ops=(Scale(2.0),))), ["mu"], "{slot}.", "{slot}.")


def test_a_chain_must_meet() -> None:
    middle = replace(RIGHT, name="middle")
    first, second = mapping_of(Rule("a", "b")), Mapping(RIGHT, middle, (Rule("b", "c"),))
    chain = compose(first, second)
    back = inverse(second)
    assert compose(chain, back) == compose(first, compose(second, back)) == Chain((first, second, back))
    assert chain.inverse() == compose(inverse(second), inverse(first))
    assert chain.inverse().inverse() == chain
    with pytest.raises(ConvkitError, match="right/model and left/model are different layouts"):
        compose(first, first)
    with pytest.raises(ConvkitError, match="middle and left/model are different layouts"):
        compose(chain, first)


# --- declarations ---------------------------------------------------------------------------------------------


def kinds(of: type[Declaration]) -> Iterator[type[Declaration]]:
    for kind in of.__subclasses__():
        yield kind
        yield from kinds(kind)


@pytest.mark.parametrize("kind", [kind for kind in kinds(Declaration) if kind is not AnyRule])
def test_a_declaration_says_what_each_of_its_fields_holds(kind: type[Declaration]) -> None:
    """A field without a role would keep its old key in the inverse, below a prefix, in a pack."""
    assert [*kind.roles] == [*(vars(Rule("a", "b")) if kind is Rule else kind.__struct_fields__)]


class Swapped(AnyRule, Struct, frozen=True):
    """A kind of rule that convkit doesn't have."""

    side: str
    key: str
    by: tuple[str, ...] = ()
    why: str = ""
    when: str = ""

    roles: ClassVar[Roles] = {
        "side": own_side(),
        "key": keys("own"),
        "by": keys("own"),
        "why": as_it_is(),
        "when": condition(),
    }

    def __str__(self) -> str:
        return self.key


def test_a_new_kind_of_rule_only_describes_its_fields() -> None:
    rule = Swapped("left", "{=hf}w", ("b.{i}",), "{=no key}", when="!tied")
    assert rule.inverse().under("l.", "r.") == Swapped("right", "r.{=hf}w", ("r.b.{i}",), "{=no key}", "!tied")
    assert rule.scoped("text.") == Swapped("left", "{=text.hf}w", ("b.{i}",), "{=no key}", "!text.tied")
    with pytest.raises(PatternError, match="rule w: "):
        Swapped("left", "w", when="tied &")


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_rules_are_values(rule: AnyRule) -> None:
    """Those that hold dicts too."""
    for copy in (deepcopy(rule), pickle.loads(pickle.dumps(rule)), rule.changed()):
        assert copy is not rule
        assert (copy, hash(copy), repr(copy), str(copy)) == (rule, hash(rule), repr(rule), str(rule))
        assert copy != rule.changed(when="other")
    with pytest.raises(AttributeError, match="immutable"):
        rule.when = ""
    assert repr(rule).startswith(f"{type(rule).__name__}(")
