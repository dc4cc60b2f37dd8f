"""Plans say what a target says only nearly, and what the source's class doesn't know."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from convkit.cli import plan as command
from convkit.config import ANYTHING, TEXT, Answer, ClassField, ConfigClass, ConfigTable, Coupled, Deviation, Field
from convkit.mapping import Layout, Mapping, Rule, compose, pack
from convkit.plan import Plan, make_plan
from engine.disk import converted, write
from engine.memory import LEFT, RIGHT, Memory, source_of

END = replace(RIGHT, name="end/model")
TREE = Layout("tree/model", "several models", "safetensors", config_file="config.json")
REASON = "it has no other curve"
ARRAYS = {"a": np.ones(3, "float32")}
CURVES = ConfigTable(
    (Field("act", "curve", values=(("silu", "swish"), ("gelu", "gelu"), ("gelu_new", "tanh"))),),
    left=ConfigClass("Left", "a source", {"act": ClassField(TEXT)}),
)
#: knows fewer curves than the middle
FEWER = ConfigTable(
    (
        Field(
            "curve",
            "fn",
            values=(("swish", "s"), ("gelu", "g"), ("tanh", "g", REASON), ("relu", "r"), ("mish", "r", REASON)),
        ),
    )
)
FIRST = Mapping(LEFT, RIGHT, (Rule("a", "b"),), CURVES)
SECOND = Mapping(RIGHT, END, (Rule("b", "c"),), FEWER)
DIRECT = Mapping(
    LEFT,
    END,
    (Rule("a", "c"),),
    ConfigTable((Field("act", "fn", values=(("gelu", "g"), ("gelu_new", "g", REASON))),), left=CURVES.left),
)


def declared(plan: Plan) -> list[tuple[str, str, Any, Any]]:
    return [(one.side, one.field, one.value, one.taken_as) for one in plan.deviations]


def test_a_plan_lists_deviations_and_unknown_fields(capsys: pytest.CaptureFixture[str]) -> None:
    source = source_of(Memory(ARRAYS), {"act": "gelu_new", "flavour": "mild"})
    plan = make_plan(source, DIRECT)
    assert declared(plan) == [("source", "act", "gelu_new", "gelu")] and plan.unknown == ("flavour",)
    document = plan.to_json()
    assert document["deviations"][0]["reason"] == REASON and document["unknown"] == ["flavour"]
    command._show(document | {"digest": plan.digest}, source)
    said = capsys.readouterr().out
    assert f"deviation: the source's act is 'gelu_new', and the target takes it as 'gelu': {REASON}\n" in said
    assert "unknown: flavour (not a field of the source's config class; kept in the complement)\n" in said


def test_a_plan_without_them_is_as_before() -> None:
    plan = make_plan(source_of(Memory(ARRAYS), {"act": "gelu"}), DIRECT)
    assert not {"deviations", "unknown"} & plan.to_json().keys()


class TestAChain:
    def test_the_first_config_says_what_the_middle_one_deviates_in(self) -> None:
        plan = make_plan(source_of(Memory(ARRAYS), {"act": "gelu_new"}), compose(FIRST, SECOND))
        assert declared(plan) == [("source", "act", "gelu_new", "gelu")]
        assert declared(plan.through[1]) == [("source", "curve", "tanh", "gelu")]

    def test_a_value_that_it_cannot_say_stays_between(self) -> None:
        """The first layout has no relu, as which the end takes the middle's mish."""
        table = replace(CURVES, rows=(Field("act", "curve", values=(("mish", "mish"),)),))
        plan = make_plan(source_of(Memory(ARRAYS), {"act": "mish"}), compose(replace(FIRST, config=table), SECOND))
        assert declared(plan) == [("between", "curve", "mish", "relu")]

    def test_the_way_back_restores_it_in_the_last_config(self, tmp_path: Any) -> None:
        chain = compose(FIRST, SECOND)
        source = write(tmp_path / "source", ARRAYS, {"act": "gelu_new"})
        converted(source, tmp_path / "there", chain)
        back = converted(tmp_path / "there", tmp_path / "back", chain.inverse())
        assert back["plan"]["target"]["config"] == {"act": "gelu_new"}
        (one,) = back["plan"]["deviations"]
        assert (one["side"], one["field"], one["value"], one["taken_as"]) == ("target", "act", "gelu_new", "gelu")


def test_a_target_may_say_more_than_its_source() -> None:
    """In a pack the field is named with the section that the target has."""

    def nothing(values: dict[str, Any], names: dict[str, Any]) -> Answer:
        return Answer({"window": 4}, deviations=(Deviation("window", 4, None, "it always has one", "target"),))

    table = ConfigTable(
        (Coupled(("act",), ("window",), nothing, nothing),),
        left=ConfigClass("Left", "a source", {"act": ClassField(ANYTHING)}),
    )
    packed = pack(TREE, TREE, {"text": replace(FIRST, config=table)}, under=("", "model."))
    plan = make_plan(source_of(Memory({"text.a": ARRAYS["a"]}), {"text": {"act": "gelu"}}), packed)
    assert declared(plan) == [("target", "text.window", 4, None)]
    assert plan.target_config == {"text": {"window": 4}}
