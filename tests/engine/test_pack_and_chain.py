"""Several mappings in one checkpoint, and one after another."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from msgspec.structs import replace

from convkit.config import ConfigTable, Constant, Field
from convkit.errors import ConfigError, ConvkitError, PlanError
from convkit.mapping import Derived, Fact, LeftBehind, Mapping, Measure, Rule, Variant, Verbatim, compose, inverse, pack
from convkit.mapping.ops import Pad
from convkit.plan import make_plan, open_source
from engine.disk import converted, read, write
from engine.memory import LEFT, RIGHT, Arrays, Memory, assert_same, carried, mapping_of, plan_of, source_of
from engine.strategies import Case, cases


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype("float32")


# --- packs ------------------------------------------------------------------------------------------------

MODEL = mapping_of(
    Rule("{=old}embed", "E", "v d -> v d", v="vocab", ops=(Pad(0, "padded"),)),
    Rule("l.{i}.q.{p:weight|bias?}", "h.{i}.q.{p}", "(h two r) ... -> (h r two) ...", h="heads", two=2),
    Rule("x.{e}", "experts", "e a -> a e"),
    Rule("head", "H", when="!tied & old=old."),
    Derived("left", "inv_freq", "inverse frequencies", {"theta": "theta", "dim": 4}),
    LeftBehind("left", "buffers.{rest:*}", "made anew", unless="buffers.kept", when="!tied"),
    Verbatim("buffers.kept.{i}"),
    names=["heads", "layers", "vocab", "padded", "tied", "theta"],
    axes={"i": "layers"},
    variants=(
        Variant("old", "left", ("old.", ""), "{=old}embed"),
        Variant("usual", "right", ("no", "yes"), usual=lambda names: "yes" if names["heads"] > 2 else "no"),
    ),
    facts=(Fact("biased", "l.{i}.q.bias", "h.{i}.q.bias"),),
    measures=(Measure("experts", ("x.{e}", "e"), ("experts", 1)),),
)
BESIDE = ConfigTable((Constant("left", "model_type", "both"), Field("joined", "together", "joined", 1, 1)))
BOTH = pack(LEFT, RIGHT, {"text": MODEL, "image": MODEL}, BESIDE)
CONFIGS: dict[str, Any] = {
    "text": {"heads": 3, "layers": 2, "vocab": 7, "padded": 9, "tied": False, "theta": 1e4},
    "image": {"heads": 1, "layers": 1, "vocab": 5, "padded": 5, "tied": True, "theta": 5e5},
}


def model(config: dict[str, Any], old: str, biased: bool) -> Arrays:
    heads = config["heads"]
    arrays: Arrays = {f"{old}embed": numbers(config["vocab"], 3)}
    for i in range(config["layers"]):
        arrays[f"l.{i}.q.weight"] = numbers(4 * heads, 3)
        if biased:
            arrays[f"l.{i}.q.bias"] = numbers(4 * heads)
    arrays |= {f"x.{e}": numbers(2) for e in range(heads + 1)}
    if not config["tied"]:
        arrays |= {"head": numbers(4), "buffers.mask": numbers(2), "buffers.kept.0": numbers(1)}
    return arrays


def below(name: str, arrays: Arrays) -> Arrays:
    return {f"{name}.{key}": array for key, array in arrays.items()}


PARTS = {"text": model(CONFIGS["text"], "old.", True), "image": model(CONFIGS["image"], "", False)}
WHOLE = below("text", PARTS["text"]) | below("image", PARTS["image"])
CONFIG = CONFIGS | {"model_type": "both"}


def test_a_pack_does_what_its_components_do() -> None:
    expected: Arrays = {}
    for name, arrays in PARTS.items():
        expected |= below(name, carried(MODEL, arrays, CONFIGS[name]))
    assert_same(carried(BOTH, WHOLE, CONFIG), expected)


def test_a_pack_is_a_mapping_with_an_inverse(tmp_path: Path) -> None:
    assert inverse(inverse(BOTH)) == BOTH
    source = write(tmp_path / "left", WHOLE, CONFIG)
    there = converted(source, tmp_path / "right", BOTH)
    converted(tmp_path / "right", tmp_path / "back", inverse(BOTH))
    assert_same(read(tmp_path / "back"), WHOLE)
    assert sorted(there["complement"]["tensors"]) == ["text.buffers.mask"]
    with open_source(tmp_path / "back") as back:
        assert back.config == CONFIG


def test_names_of_components_do_not_meet() -> None:
    plan = plan_of(BOTH, WHOLE, CONFIG)
    assert (plan.names["text.layers"], plan.names["image.layers"]) == (2, 1)
    assert (plan.names["text.biased"], plan.names["image.biased"]) == (True, False)
    assert (plan.names["text.experts"], plan.names["image.experts"]) == (4, 2)
    assert plan.names["joined"] == 1
    assert plan.variant == {"text.old": "old.", "image.old": "", "text.usual": "yes", "image.usual": "no"}
    assert plan.target_config == CONFIGS | {"together": 1}


@pytest.mark.parametrize(
    ("arrays", "config", "key", "why"),
    [
        (
            {key: array for key, array in WHOLE.items() if key != "text.l.1.q.weight"},
            {},
            "text.l.1.q.weight",
            "missing",
        ),
        (WHOLE | {"image.l.1.q.weight": numbers(4, 3)}, {}, "image.layers", "is 1, but the checkpoint has 2"),
        (WHOLE, {"image": CONFIGS["image"] | {"heads": 3}}, "image.heads", r"is 3, but image\.l\.0\.q\.weight"),
    ],
)
def test_a_component_that_does_not_fit_is_named(arrays: Arrays, config: dict[str, Any], key: str, why: str) -> None:
    with pytest.raises(PlanError, match=why) as refusal:
        plan_of(BOTH, arrays, CONFIG | config)
    assert refusal.value.key == key


@pytest.mark.parametrize(
    ("config", "key"),
    [
        ({"text": CONFIGS["text"], "model_type": "both"}, "image"),
        (CONFIG | {"text": {"heads": 3}}, "text.layers"),
        (CONFIG | {"model_type": "one"}, "model_type"),
    ],
)
def test_a_components_config_is_named(config: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        plan_of(BOTH, WHOLE, config)
    assert refusal.value.key == key


def test_what_a_config_says_more_is_kept_by_component(tmp_path: Path) -> None:
    config = CONFIG | {"text": CONFIGS["text"] | {"dtype": "float32"}, "license": "free"}
    converted(write(tmp_path / "left", WHOLE, config), tmp_path / "right", BOTH)
    converted(tmp_path / "right", tmp_path / "back", inverse(BOTH))
    with open_source(tmp_path / "back") as back:
        assert back.config == config


# --- chains -----------------------------------------------------------------------------------------------

MIDDLE = replace(RIGHT, name="middle/model")
FIRST = mapping_of(
    Rule("l.{i}.{n:q|k}", "l.{i}.qk", "n x y -> y (n x)"),
    Rule(("embed", "head"), "E"),
    Rule("whole", "half.{n:a|b}", "(a + b) -> {n}", a=3),
    axes={"i": "layers"},
    names=["layers"],
)
SECOND = Mapping(
    RIGHT,
    MIDDLE,
    (
        Rule("l.{i}.qk", "stacked", "i y (two x) -> x i y two", two=2),
        Rule("E", ("embed", "head"), "v d -> d v"),
        Rule("half.{n:a|b}", "{n}"),
    ),
    ConfigTable((Field("layers", "layers", "layers"),)),
    axes={"i": "layers"},
)
CHAIN = compose(FIRST, SECOND)
LAYERS = {"layers": 3}


def chained() -> Arrays:
    arrays: Arrays = {f"l.{i}.{n}": numbers(4, 5) + i for i in range(3) for n in "qk"}
    arrays |= {"embed": numbers(6, 7), "whole": numbers(5)}
    return arrays | {"head": arrays["embed"].copy()}


@pytest.mark.parametrize("format", ["safetensors", "torch", "cerebras-h5"])
def test_a_chain_gives_what_two_conversions_give(tmp_path: Path, format: str) -> None:
    source = write(tmp_path / "left", chained(), LAYERS, format=format)
    converted(source, tmp_path / "middle", FIRST, {"format": format})
    two = converted(tmp_path / "middle", tmp_path / "two", SECOND, {"format": format})
    one = converted(source, tmp_path / "one", CHAIN, {"format": format}, threads=3)
    assert_same(read(tmp_path / "one"), read(tmp_path / "two"))
    assert one["target"]["leaves"] == two["target"]["leaves"]
    assert one["source"]["leaves"].keys() == chained().keys()
    links = ["left/model <-> right/model", "right/model <-> middle/model"]
    assert [stage["mapping"] for stage in one["plan"]["through"]] == links
    assert one["plan"]["mapping"] == "left/model <-> right/model <-> middle/model"
    converted(tmp_path / "one", tmp_path / "back", CHAIN.inverse(), {"format": format})
    assert_same(read(tmp_path / "back"), chained())


def test_another_way_is_another_plan() -> None:
    """Both ends are the same, so only the intermediate layouts distinguish the plans."""
    turned = FIRST.rules[0].changed(pattern="n x y -> y (x n)")
    source = source_of(Memory(chained()), LAYERS)
    chains = [CHAIN, compose(FIRST, SECOND), compose(replace(FIRST, rules=(turned, *FIRST.rules[1:])), SECOND)]
    plans = [make_plan(source, chain) for chain in chains]
    assert plans[0].digest == plans[1].digest != plans[2].digest
    assert plans[0].exact


@given(cases(), cases())
@settings(max_examples=30)
def test_a_rule_after_its_inverse_changes_nothing(one: Case, other: Case) -> None:
    rules = [
        Rule(f"{n}l{case.left.fields}", f"{n}r{case.right.fields}", case.pattern, **case.sizes)
        for n, case in enumerate((one, other))
    ]
    mapping = mapping_of(*rules)
    arrays: Arrays = {}
    for n, case in enumerate((one, other)):
        arrays |= {
            f"{n}l{key}": np.arange(len(labels), dtype="uint16").reshape(shape)
            for key, (labels, shape) in case.left.leaves.items()
        }
    assert_same(carried(compose(mapping, inverse(mapping)), arrays), arrays)


def test_ties_are_proven_on_the_way(tmp_path: Path) -> None:
    source = write(tmp_path / "left", chained() | {"head": numbers(6, 7) + 1}, LAYERS)
    with pytest.raises(ConvkitError, match="head: differs from embed"):
        converted(source, tmp_path / "one", CHAIN)


def test_plans_of_chains_and_of_padding_obey_the_schema(tmp_path: Path) -> None:
    schema = json.loads((files("convkit") / "schemas" / "plan.schema.json").read_text())
    documents = [make_plan(source_of(Memory(chained()), LAYERS), CHAIN).to_json()]
    config = {"vocab": 3, "padded": 4}
    padded = mapping_of(Rule("e", "E", "v -> v", v="vocab", ops=(Pad(0, "padded"),)), names=config)
    source = write(tmp_path / "left", {"E": numbers(4)}, config)
    documents.append(converted(source, tmp_path / "right", inverse(padded))["plan"])
    documents.append(converted(tmp_path / "right", tmp_path / "back", padded)["plan"])
    for document in documents:
        jsonschema.Draft202012Validator(schema).validate(json.loads(json.dumps(document)))
    assert documents[1]["steps"][0]["crop"]["kept_as"] == documents[2]["steps"][0]["pad"]["kept_as"] == "E#cropped"
