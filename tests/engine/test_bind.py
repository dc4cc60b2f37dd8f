"""Binding: what rules claim, and the errors for checkpoints that don't match."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from convkit.errors import PlanError
from convkit.mapping import Derived, LeftBehind, Measure, Rule, Variant, Verbatim, inverse
from convkit.mapping.ops import Pad
from engine.memory import Arrays, carried, mapping_of, plan_of


def zeros(*shape: int, dtype: str = "float32") -> np.ndarray:
    return np.zeros(shape, dtype)


LLAMA = mapping_of(
    Rule("{=hf}layers.{i}.q.{p:weight|bias?}", "h.{i}.q.{p}", "(h two r) ... -> (h r two) ...",
         h="heads", two=2, r="half"),
    Rule("{=hf}norm", "ln_f", "d -> d", d="hidden"),
    Rule("head", "lm_head", "v d -> v d", d="hidden", optional=True),
    Derived("left", "{=hf}layers.{i}.inv_freq", "inverse frequencies", {"theta": 10000.0, "dim": 6}),
    LeftBehind("right", "{rest:*}", "not part of the model", unless="h."),
    names=["heads", "half", "hidden", "layers"],
    variants=(Variant("hf", "left", ("model.", ""), "{=hf}norm"),),
    axes={"i": "layers"},
)  # fmt: skip
CONFIG = {"heads": 2, "half": 3, "hidden": 8, "layers": 3}


def llama(prefix: str = "model.", biased: bool = True) -> Arrays:
    arrays = {f"{prefix}layers.{i}.q.weight": zeros(12, 8) for i in range(3)} | {f"{prefix}norm": zeros(8)}
    return arrays | ({f"{prefix}layers.{i}.q.bias": zeros(12) for i in range(3)} if biased else {})


def without(arrays: Arrays, *keys: str) -> Arrays:
    return {key: array for key, array in arrays.items() if key not in keys}


@pytest.mark.parametrize("prefix", ["model.", ""])
@pytest.mark.parametrize("biased", [True, False])
def test_what_is_there_is_claimed(prefix: str, biased: bool) -> None:
    plan = plan_of(LLAMA, llama(prefix, biased), CONFIG)
    assert len(plan.target_leaves) == len(llama(prefix, biased))
    assert plan.variant == {"hf": prefix}
    assert plan.warnings == []
    assert sorted(plan_of(inverse(LLAMA), carried(LLAMA, llama(), CONFIG), CONFIG).target_leaves) == sorted(llama())


LAYERS = [key for key in llama() if ".layers." in key]
REFUSED: list[tuple[str, Arrays, dict[str, Any], str, str]] = [
    ("a key that no rule knows", llama() | {"model.layers.0.scale": zeros(3)}, {},
     "model.layers.0.scale", "no rule of left/model <-> right/model claims it"),
    ("several of them", llama() | {f"extra.{i}": zeros(1) for i in range(5)}, {},
     "extra.0", "and 4 more: extra.1, extra.2, extra.3, ..."),
    ("a missing key", without(llama(), "model.norm"), {}, "model.norm", "is missing"),
    ("a missing layer", without(llama(biased=False), "model.layers.1.q.weight"), {},
     "model.layers.1.q.weight", "is missing"),
    ("a layer more than the config says", llama(), {"layers": 2}, "layers", "is 2, but the checkpoint has 3"),
    ("a layer less", llama(), {"layers": 4}, "layers", "is 4, but the checkpoint has 3"),
    ("more layers than memory", llama(), {"layers": 10**30}, "layers", "but the checkpoint has 3"),
    ("more layers than memory, and no layer", without(llama(), *LAYERS), {"layers": 10**30}, "layers",
     "no checkpoint has more than 100000 of them"),
    ("some of the biases", without(llama(), "model.layers.2.q.bias"), {}, "model.layers.2.q.bias",
     "is missing, though model.layers.0.q.bias is there"),
    ("the biases alone", without(llama(), *(f"model.layers.{i}.q.weight" for i in range(3))), {},
     "model.layers.0.q.weight", "is missing (and 2 more)"),
    ("another number of heads", llama(), {"heads": 4}, "heads",
     "is 4 and half is 3, but model.layers.0.q.weight of shape [12, 8] has 12 where that makes 24"),
    ("another hidden size", llama(), {"hidden": 10}, "hidden",
     "is 10, but model.norm of shape [8] has 8 there"),
    ("an axis too many", llama() | {"model.norm": zeros(8, 1)}, {}, "model.norm", "'d' has 1 axes, the tensor has 2"),
    ("a scalar", llama() | {"model.layers.0.q.bias": zeros()}, {}, "model.layers.0.q.bias",
     "has at least 1 axes, the tensor has 0"),
    ("a value where a tensor should be", llama() | {"model.layers.0.q.bias": 3.5}, {}, "model.layers.0.q.bias",
     "rearranges tensors, but model.layers.0.q.bias is a single value"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("arrays", "config", "key", "why"), [case[1:] for case in REFUSED], ids=[x[0] for x in REFUSED]
)
def test_what_is_not_total_is_refused(arrays: Arrays, config: dict[str, Any], key: str, why: str) -> None:
    with pytest.raises(PlanError) as refusal:
        plan_of(LLAMA, arrays, CONFIG | config)
    error = refusal.value
    assert error.key == key
    assert error.path == "memory"
    assert why in error.problem
    assert error.remedy
    assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("rules", "arrays", "key", "why"),
    [
        ([Rule("a", "b"), Rule("{n:a|c}", "d.{n}")], {"a": zeros(1), "c": zeros(1)}, "a",
         "two rules claim it: a <-> b; {n:a|c}"),
        ([Rule("a", "c"), Rule("b", "c")], {"a": zeros(1), "b": zeros(1)}, "c", "two rules make it"),
        ([Rule("a.{i}", "b.{i}")], {}, "a.{i}", "is missing: rule a.{i} <-> b.{i} needs it"),
        ([Rule("a.{e}", "b", "e x -> e x")], {}, "a.{e}", "is missing"),
        ([Rule("a.{e}", "b", "e x -> e x")], {"a.0": zeros(1), "a.2": zeros(1)}, "a.1", "is missing"),
        ([Rule("a.{i}.{e}", "b.{i}", "e x -> e x")],
         {"a.0.0": zeros(1), "a.0.1": zeros(1), "a.1.0": zeros(1)}, "a.1.1", "is missing"),
        ([Rule("a.{e}", "b", "e x -> e x", e=3)], {"a.0": zeros(1), "a.1": zeros(1)}, "a.2", "is missing"),
        ([Rule("a.{e}", "b", "e x -> e x", e=1)], {"a.0": zeros(1), "a.1": zeros(1)}, "a.1", "claims it"),
        ([Rule("a.{n:q|k}", "b", "n x -> n x", n=3)], {"a.q": zeros(1), "a.k": zeros(1)}, "a.q",
         "axis 'n' should have length 3, there are 2 keys along it"),
        ([Rule("b", "a.{n:q|k}", "n x -> n x")], {"b": zeros(3, 1)}, "b",
         "of shape [3, 1] has an axis of 3, but it should be 2"),
        ([Rule("b", "a.{n:q|k}", "(n x) -> n x")], {"b": zeros(5)}, "b",
         "of shape [5] has an axis of 5, but no size fits that"),
        ([Rule("a", "b", "(h r) -> (r h)")], {"a": zeros(6)}, "a", "the sizes of h, r must be given"),
        ([Rule("a", "b", "(h r) -> (r h)", h="heads")], {"a": zeros(6)}, "a", "size h='heads' isn't known"),
        ([Rule("a", "b", "x -> x", ops=(Pad(0, "to"),))], {"a": zeros(6)}, "a", "size to='to' isn't known"),
        ([Rule("b", "a", "x -> x", ops=(Pad(0, "to"),)).inverse()], {"a": zeros(6)}, "a",
         "axis 'x' is padded: the size of 'x' must be given"),
        ([Rule("a.{n:q|k}", "b", "n x -> n x")], {"a.q": zeros(1), "a.k": zeros(1, dtype="float16")}, "a.q",
         "leaves of one rule have different dtypes: float16, float32"),
        ([Rule("a.{n:q|k}", "b", "n x -> n x")], {"a.q": zeros(1), "a.k": zeros(2)}, "a.k",
         "of shape [2] has an axis of 2, but a.q of shape [1] beside it has 1"),
        ([Verbatim("a"), Verbatim("{rest:*}"), Rule("b", "a")], {"a": zeros(1), "b": zeros(1)}, "a",
         "two rules make it"),
    ],
)  # fmt: skip
def test_a_rule_that_does_not_fit_says_why(rules: list, arrays: Arrays, key: str, why: str) -> None:
    with pytest.raises(PlanError) as refusal:
        plan_of(mapping_of(*rules), arrays)
    assert refusal.value.key == key
    assert why in refusal.value.problem


def test_an_optional_rule_may_find_nothing_but_not_a_part() -> None:
    mapping = mapping_of(Rule("x.{i}", "y.{i}", optional=True), Rule("z", "z"), axes={"i": "layers"}, names=["layers"])
    assert list(carried(mapping, {"z": zeros(1)}, {"layers": 2})) == ["z"]
    with pytest.raises(PlanError, match=r"x\.1: is missing"):
        plan_of(mapping, {"z": zeros(1), "x.0": zeros(1)}, {"layers": 2})


def test_a_model_may_have_no_layers() -> None:
    mapping = mapping_of(Rule("x.{i}", "y.{i}"), Rule("z", "z"), axes={"i": "layers"}, names=["layers"])
    assert list(carried(mapping, {"z": zeros(1)}, {"layers": 0})) == ["z"]


def test_conditions_choose_rules() -> None:
    mapping = mapping_of(
        Rule("embed", ("E", "H"), when="tied"),
        Rule("embed", "E", when="!tied"),
        Rule("head", "H", when="!tied & kind=lm"),
        names=["tied", "kind"],
    )
    both = {"embed": zeros(2), "head": zeros(2)}
    assert sorted(carried(mapping, without(both, "head"), {"tied": True, "kind": "lm"})) == ["E", "H"]
    assert sorted(carried(mapping, both, {"tied": False, "kind": "lm"})) == ["E", "H"]
    assert sorted(carried(mapping, without(both, "head"), {"tied": False, "kind": "base"})) == ["E"]
    with pytest.raises(PlanError, match="claims it"):
        plan_of(mapping, both, {"tied": False, "kind": "base"})


def test_the_left_behind_is_what_no_rule_claims_wherever_it_stands() -> None:
    mapping = mapping_of(LeftBehind("left", "{rest:*}", "not wanted"), Rule("a", "b"))
    plan = plan_of(mapping, {"a": zeros(1), "c": zeros(1)})
    assert plan.fates() == {
        "a": {"fate": "moved", "step": 0},
        "c": {"fate": "left behind", "reason": "not wanted"},
    }


def test_empty_and_scalar_tensors_are_tensors() -> None:
    mapping = mapping_of(
        Rule("scalar", "s"),
        Rule("empty", "e", "x y -> y x"),
        Rule("part.{i}", "whole", "i x -> i x"),
        Rule("split", "half.{n:q|k}", "(q + k) -> {n}", k=3),
    )
    found = carried(
        mapping,
        {
            "scalar": np.array(2.5, "float16"),
            "empty": zeros(0, 4),
            "part.0": zeros(0),
            "part.1": zeros(0),
            "split": np.arange(3, dtype="int8"),
        },
    )
    assert {key: array.shape for key, array in found.items()} == {
        "s": (),
        "e": (4, 0),
        "whole": (2, 0),
        "half.q": (0,),
        "half.k": (3,),
    }
    assert found["s"] == 2.5
    assert list(found["half.k"]) == [0, 1, 2]


def test_many_experts_are_bound_in_time() -> None:
    """Tens of thousands of leaves: nothing may grow with the square of their number."""
    layers, experts = 40, 128
    mapping = mapping_of(
        Rule("l.{i}.{e}.w", "l.{i}.w", "e x -> x e"),
        Rule("l.{i}.{e}.u", "m.{i}.{e}"),
        axes={"i": "layers", "e": "experts"},
        names=["layers", "experts"],
    )
    arrays = {f"l.{i}.{e}.{n}": zeros(1) for i in range(layers) for e in range(experts) for n in "wu"}
    plan = plan_of(mapping, arrays, {"layers": layers, "experts": experts})
    assert len(plan.target_leaves) == layers * (experts + 1)


def test_sizes_that_leaves_give_contradict_in_plain_words() -> None:
    """Without a config, the leaves that contradict each other are named, with both numbers; no rule is quoted."""
    measures = (Measure("heads", ("q", 0), None), Measure("wide", ("a", 1), None), Measure("wide", ("b", 1), None))
    rules = (Rule("{n:q|k}", "{n}", "h r -> h r", h="heads"), Rule("a", "a"), Rule("b", "b"))
    mapping = mapping_of(*rules, measures=measures)
    arrays = {"q": zeros(4, 2), "k": zeros(4, 2), "a": zeros(1, 3), "b": zeros(1, 3)}
    plan_of(mapping, arrays)
    for changed, words in (
        ({"k": zeros(5, 2)}, r"k: of shape \[5, 2\] has an axis of 5, but heads is 4 \(correct it: --size heads=N"),
        ({"b": zeros(1, 7)}, r"b: says wide = 7 \(axis 1 of \[1, 7\]\), but a says 3 \(the checkpoint is damaged"),
    ):
        with pytest.raises(PlanError, match=words) as refused:
            plan_of(mapping, arrays | changed)
        assert "rule" not in str(refused.value)
    with pytest.raises(PlanError, match=r"q: says heads = 4 .*, not 5 \(correct the size, or leave it out"):
        plan_of(mapping, arrays, given={"heads": 5})
