"""Every mapping, ours and those of installed packages, against the laws of convkit.testing; and mappings that break
them.
"""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest
from msgspec.structs import replace

from convkit.config import Answer, ConfigError, ConfigTable, Constant, Coupled, Field
from convkit.config.classes import ClassField, ConfigClass
from convkit.config.values import COUNT, FLAG, NUMBER
from convkit.mapping import Fact, Layout, LeftBehind, Mapping, Measure, Part, Rule, Variant, pack
from convkit.mappings import all_mappings, find_mapping, unchanged
from convkit.testing import FAMILY_LAWS
from convkit.testing.families import FamilyLaw, find_models
from convkit.testing.missing import check_missing
from convkit.verify.roundtrip import faults

#: every mapping; of those of what DPO trains, which repeat their families', one in any case
MAPPINGS = [
    pytest.param(one, marks=[pytest.mark.slow] if "/dpo-" in one.name and "/dpo-gpt2" not in one.name else ())
    for one in all_mappings()
]

LAWS: dict[str, FamilyLaw] = {law.__name__: law for law in FAMILY_LAWS}


def hold(mapping: Mapping, folder: Path) -> None:
    for law in FAMILY_LAWS:
        law(mapping, folder, Random(0))


@pytest.mark.parametrize("mapping", MAPPINGS, ids=lambda mapping: mapping.name)
def test_the_laws_hold(mapping: Mapping, tmp_path: Path) -> None:
    hold(mapping, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("mapping", all_mappings(), ids=lambda mapping: mapping.name)
def test_each_missing_leaf_of_every_model_is_noticed(mapping: Mapping) -> None:
    """The law of missing leaves, which samples leaves of a few models, for all of them."""
    for model in find_models(mapping, Random(0)).few():
        check_missing(model, Random(0), most=len(model.checkpoint.leaves))


def test_the_laws_hold_for_a_mapping_that_changes_nothing(tmp_path: Path) -> None:
    hold(unchanged(find_mapping("hf/gpt2", "cerebras/gpt2").left), tmp_path)


# --- a mapping of our own, and what can be wrong with it ---------------------------------------------------

LEFT = Layout("one/model", "one side", "safetensors", "config.json")
RIGHT = Layout("other/model", "the other side", "safetensors", "config.json", releases=((1, 0), (2, 0)))
ONE = ConfigClass("One", "its source", {
    "width": ClassField(COUNT, 4), "depth": ClassField(COUNT, 2), "heads": ClassField(COUNT, 2),
    "tied": ClassField(FLAG, False), "eps": ClassField(NUMBER, 1e-5),
})  # fmt: skip
OTHER = ConfigClass("Other", "its source", {
    "size": ClassField(COUNT, 4), "layers": ClassField(COUNT, 2), "parts": ClassField(COUNT, 2),
    "shared": ClassField(FLAG, False), "epsilon": ClassField(NUMBER, 1e-5),
})  # fmt: skip
ROWS = (
    Field("width", "size"),
    Field("depth", "layers"),
    Field("heads", "parts"),
    Field("tied", "shared"),
    Field("eps", "epsilon"),
)
RULES = (
    Rule(("{=one}embed", "head"), ("words", "out"), "v d -> v d", d="width", when="tied"),
    Rule("{=one}embed", "words", "v d -> v d", d="width", when="!tied"),
    Rule("head", "out", "v d -> v d", d="width", when="!tied"),
    Rule("{=one}layers.{i}.qkv", "layers.{i}.{n:q|k|v}", "(n o) d -> n o d", d="width"),
    Rule("{=one}layers.{i}.bias", "layers.{i}.b", "(h two r) -> (h r two)", h="heads", two=2, optional=True),
    LeftBehind("right", "step", "is the state of training"),
)
MINE = Mapping(
    LEFT,
    RIGHT,
    RULES,
    config=ConfigTable(ROWS, left=ONE, right=OTHER),
    variants=(Variant("one", "left", ("model.", ""), "{=one}embed"),),
    facts=(Fact("biased", "{=one}layers.{i}.bias", "layers.{i}.b", lack="a model may have no biases"),),
    axes={"i": "depth"},
)


def test_the_laws_hold_for_a_mapping_of_other_people(tmp_path: Path) -> None:
    hold(MINE, tmp_path)


def test_the_laws_hold_for_a_pack(tmp_path: Path) -> None:
    whole = pack(replace(LEFT, name="one/pair"), replace(RIGHT, name="other/pair"), {"a": MINE, "b": MINE})
    hold(whole, tmp_path)


def test_the_laws_hold_without_classes_and_with_measures(tmp_path: Path) -> None:
    measures = (
        Measure("width", ("{=one}embed", 1), ("words", 1)),
        Measure("depth", ("{=one}layers.{i}.qkv", "i"), ("layers.{i}.q", "i")),
        Measure("heads", None, None),
    )
    rules = tuple(rule for rule in RULES if rule.when != "tied")
    untied = Coupled((), (), *[lambda values, names: Answer(names={"tied": False, "heads": names.get("heads", 1)})] * 2)
    layers = Part("left", "the layers", ("{=one}layers.{i}.qkv",), lack="only they themselves say how many there are")
    mine = replace(MINE, rules=rules, measures=measures, config=ConfigTable((untied,)), parts=(layers,))
    hold(mine, tmp_path)


def with_rows(*rows: Any, without: str = "") -> Mapping:
    kept = tuple(row for row in ROWS if row.left != without)
    return replace(MINE, config=replace(MINE.config, rows=(*kept, *rows)))


def _one_head(values: dict[str, Any], names: dict[str, Any]) -> Answer:
    return Answer({"heads": values.get("parts", 2)}, {"heads": 1})


def _heads(values: dict[str, Any], names: dict[str, Any]) -> Answer:
    return Answer({"parts": values.get("heads", 2)}, {"heads": values.get("heads", 2)})


def _twice(values: dict[str, Any], names: dict[str, Any]) -> Answer:
    return Answer({"eps": 2 * values.get("epsilon", 1e-5)})


def _same(values: dict[str, Any], names: dict[str, Any]) -> Answer:
    return Answer({"epsilon": values.get("eps", 1e-5)})


def _back(values: dict[str, Any], names: dict[str, Any]) -> Answer:
    return Answer({"eps": values.get("epsilon", 1e-5)})


def _nameless(values: dict[str, Any], names: dict[str, Any]) -> Answer:
    if values.get("eps", 1e-5) > 1:
        raise ConfigError("is too large", remedy="make it smaller")
    return _same(values, names)


def _crashing(values: dict[str, Any], names: dict[str, Any]) -> Answer:
    return Answer({"epsilon": {1e-5: 1e-5}[values.get("eps", 1e-5)]})


class Lopsided(Fact):
    """A fact that forgets a side when it is read backwards."""

    def inverse(self) -> Fact:
        return replace(self, left=self.right)


HEADLESS = replace(MINE, rules=(*RULES[:1], RULES[1], RULES[2].changed(when="!tied & !headless"), *RULES[3:]))
LATE = OTHER.extended("Late", layers=ClassField(COUNT, 9, since=(2, 0)))

#: law, a mapping that breaks it, and what the message says
BROKEN: list[tuple[str, Mapping, str]] = [
    ("is_the_inverse_of_its_inverse", replace(MINE, facts=(Lopsided("biased", "a", "b"),)), "is another mapping"),
    ("gives_every_leaf_a_fate", replace(MINE, rules=(*RULES, RULES[1].changed(when=""))), "embed: two rules claim it"),
    ("uses_every_rule", replace(MINE, rules=(*RULES, Rule("a", "b", when="tied & !tied"))), "a <-> b: no model"),
    (
        "comes_back_bit_by_bit",
        with_rows(Coupled(("heads",), ("parts",), _heads, _one_head), without="heads"),
        "the bits differ",
    ),
    ("base_models_come_back", HEADLESS, "without its head: in memory"),
    (
        "every_release_has_a_plan",
        replace(MINE, config=replace(MINE.config, right=LATE)),
        "release (1, 0): no model converts",
    ),
    (
        "config_comes_back",
        with_rows(Coupled(("eps",), ("epsilon",), _same, _twice), without="eps"),
        "epsilon is",
    ),
    (
        "every_field_has_a_fate",
        with_rows(Coupled(("eps",), ("epsilon",), _nameless, _back), without="eps"),
        "not by name",
    ),
    (
        "every_field_has_a_fate",
        with_rows(Coupled(("eps",), ("epsilon",), _crashing, _back), without="eps"),
        "KeyError",
    ),
    (
        "each_missing_leaf_is_noticed",
        replace(MINE, rules=(*RULES, Rule("gain", "gain", optional=True))),
        "gain is left out, and gain is lost without a word",
    ),
    ("every_field_has_a_fate", with_rows(Constant("right", "nowhere", 1)), "Other: nowhere is named by a row"),
    (
        "every_field_has_a_fate",
        replace(MINE, config=replace(MINE.config, right=OTHER.extended("More", scale=ClassField(COUNT, 2, 1)))),
        "More: scale has an effect by default",
    ),
]


@pytest.mark.parametrize(("law", "mapping", "said"), BROKEN, ids=[law for law, _, _ in BROKEN])
def test_a_mapping_that_breaks_a_law_is_caught(law: str, mapping: Mapping, said: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError) as caught:
        LAWS[law](mapping, tmp_path, Random(0))
    assert said in str(caught.value)
    assert mapping.left.name in str(caught.value)


def test_a_round_trip_that_misses_a_fault_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(faults.FAULTS, "nothing", lambda case: case)
    with pytest.raises(AssertionError, match="nothing"):
        LAWS["sees_planted_faults"](MINE, tmp_path, Random(0))


def test_every_law_is_broken_once() -> None:
    assert {law for law, _, _ in BROKEN} | {"sees_planted_faults"} == LAWS.keys()
