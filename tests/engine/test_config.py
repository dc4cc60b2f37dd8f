"""Config tables: declared once, read both ways; a value that can't be expressed is refused with its field."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convkit.config import (
    ABSENT,
    COUNT,
    EVERY_VALUE,
    FLAG,
    NUMBER,
    TEXT,
    WHOLE,
    Answer,
    ClassField,
    ConfigClass,
    ConfigTable,
    Constant,
    Coupled,
    Field,
    Flag,
    Name,
    Written,
)
from convkit.config.tree import dig, merge, missing_from, plant
from convkit.errors import ConfigError

LEFT_CLASS = ConfigClass("Left", "the left manual", {
    "model_type": ClassField(TEXT, ABSENT),
    "hidden_size": ClassField(COUNT, also=("d_model",)),
    "heads": ClassField(COUNT, 4),
    "act": ClassField(TEXT, "silu"),
    "inner": ClassField(COUNT.or_null, lambda names: 4 * names["hidden"]),
    "window": ClassField(COUNT.or_null, ABSENT),
    "old": ClassField(WHOLE, 1),
    "bias": ClassField(FLAG, False),
    "theta": ClassField(NUMBER, 1e4),
    "rope": ClassField(TEXT, "plain"),
})  # fmt: skip
RIGHT_CLASS = ConfigClass("Right", "the right manual", {
    "name": ClassField(TEXT, ABSENT, EVERY_VALUE, since=(2, 4)),
    "width": ClassField(COUNT),
    "attention.heads": ClassField(COUNT, 2, told=True),
    "nonlinearity": ClassField(TEXT, "geglu"),
    "filter": ClassField(COUNT),
    "sliding_window": ClassField(COUNT.or_null, ABSENT),
    "was_called": ClassField(WHOLE, 1, until=(2, 3)),
    "use_bias": ClassField(FLAG, True),
    "rope_theta": ClassField(NUMBER, ABSENT),
    "rope_kind": ClassField(TEXT, ABSENT),
    "dropout": ClassField(NUMBER, 0.1),
    "quiet": ClassField(WHOLE, 1),
    "half": ClassField(WHOLE, ABSENT, EVERY_VALUE),
    "only_wide": ClassField(FLAG, False),
    "mup_base": ClassField(NUMBER.or_null, 1.0, why="a scaled model"),
})  # fmt: skip


def _theta_to_right(values: dict[str, Any], names: dict[str, Any]) -> Answer:
    odd = ("rope is odd",) if values.get("rope") == "odd" else ()
    return Answer({"rope_theta": values.get("theta", ABSENT)}, {"theta": values.get("theta", 1e4)}, odd)


def _theta_to_left(values: dict[str, Any], names: dict[str, Any]) -> Answer:
    return Answer({"theta": values.get("rope_theta", ABSENT)}, {"theta": values.get("rope_theta", 1e4)})


ACTIVATIONS = (("silu", "swiglu"), ("gelu", "geglu"), ("swish", "swiglu"))
TABLE = ConfigTable(
    left=LEFT_CLASS,
    right=RIGHT_CLASS,
    right_at=("model", "trainer.init.model"),
    rows=(
        Constant("left", "model_type", "tiny"),
        Constant("right", "name", "tiny", also=("small",)),
        Field("hidden_size", "width", "hidden"),
        Field("heads", "attention.heads", "heads"),
        Field("act", "nonlinearity", values=ACTIVATIONS),
        Field("inner", "filter", "filter", null=lambda names: 4 * names["hidden"]),
        Field("window", "sliding_window", "window"),
        Field("old", "was_called", "old"),
        Name("head_dim", lambda names: names["hidden"] // names["heads"]),
        Flag("bias", "use_bias", "bias"),
        Coupled(("theta", "rope"), ("rope_theta", "rope_kind"), _theta_to_right, _theta_to_left),
        Constant("right", "dropout", 0.0),
        Written("right", "half", lambda names: names["hidden"] // 2),
        Constant("right", "only_wide", True, when="wide"),
    ),
)
LEFT = {"model_type": "tiny", "hidden_size": 12, "heads": 3, "act": "silu", "inner": 20, "bias": True, "theta": 5e5}
RIGHT = {
    "model": {
        "name": "tiny",
        "width": 12,
        "attention": {"heads": 3},
        "nonlinearity": "swiglu",
        "filter": 20,
        "use_bias": True,
        "rope_theta": 5e5,
        "dropout": 0.0,
        "half": 6,
    }
}
FACTS = {"wide": False}


def to_right(config: dict[str, Any], facts: dict[str, Any] | None = None, release: tuple[int, ...] = ()) -> Any:
    return TABLE.convert(config, FACTS | (facts or {}), release)


def to_left(config: dict[str, Any], facts: dict[str, Any] | None = None) -> Any:
    return TABLE.inverse().convert(config, FACTS | (facts or {}))


def test_there_and_back() -> None:
    there = to_right(LEFT)
    assert there.config == RIGHT
    assert there.lost == {}
    back = to_left(there.config)
    assert back.config == LEFT | {"old": 1}
    assert back.lost == {"model": {"half": 6}}
    assert back.names == there.names
    assert TABLE.inverse().inverse() == TABLE


@given(st.fixed_dictionaries(
    {"hidden_size": st.integers(1, 99)},
    optional={
        "model_type": st.just("tiny"), "heads": st.integers(1, 9), "act": st.sampled_from(["silu", "gelu"]),
        "inner": st.integers(1, 99), "window": st.integers(1, 9) | st.none(), "bias": st.booleans(),
        "theta": st.floats(1, 1e6),
    },
))  # fmt: skip
def test_names_survive_the_way_there_and_back(config: dict[str, Any]) -> None:
    there = to_right(config)
    back = to_left(there.config)
    assert back.names == there.names
    assert to_right(back.config).config == there.config
    for name, value in config.items():
        assert back.config[name] == value, "what was said is said again"


def test_defaults_are_listed_with_their_source() -> None:
    left, right = to_right({"hidden_size": 12}), to_left({"model": {"width": 12, "filter": 9, "dropout": 0.0}})
    assert {entry["name"]: entry["value"] for entry in left.defaults} == {
        "heads": 4, "act": "silu", "inner": 48, "old": 1, "bias": False,
    }  # fmt: skip
    assert {entry["source"] for entry in left.defaults} == {"the left manual"}
    assert left.names["head_dim"] == 3
    assert left.names["window"] is None
    assert "sliding_window" not in left.config["model"]
    assert {entry["name"]: entry["value"] for entry in right.defaults}["attention.heads"] == 2
    assert right.names["act"] == "gelu"


@pytest.mark.parametrize(
    ("convert", "config", "key", "why"),
    [
        (to_right, {}, "hidden_size", "is missing"),
        (to_right, LEFT | {"act": "tanh"}, "act", "'tanh' has no counterpart"),
        (to_right, LEFT | {"model_type": "huge"}, "model_type", "is 'huge', but this layout has 'tiny'"),
        (to_left, {"model": {"width": 12, "filter": 3}}, "dropout", "is 0.1, but this layout has 0.0"),
        (to_left, {"model": {"width": 12, "dropout": 0.0, "name": "large"}}, "name", "is 'large'"),
        (to_left, {"model": {"width": 12, "filter": 9, "dropout": 0.0, "quiet": 2}}, "quiet", "is 2"),
        (
            to_left,
            {"model": {"width": 12, "filter": 9, "dropout": 0, "mup_base": 2.0}},
            "mup_base",
            "is 2.0: a scaled model",
        ),
        (to_left, {"nothing": {}}, None, "has no section model or trainer.init.model"),
        (to_left, {"model": 3}, None, "has no section"),
    ],
)
def test_what_cannot_be_said_is_refused(convert: Any, config: dict[str, Any], key: str, why: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        convert(config)
    assert refusal.value.key == key
    assert why in refusal.value.problem
    assert refusal.value.remedy


def test_neutral_values_of_refused_fields_are_fine() -> None:
    model = {"width": 12, "filter": 1, "dropout": 0.0}
    for neutral in (1.0, None):
        found = to_left({"model": model | {"mup_base": neutral, "name": "small"}})
        assert found.config["hidden_size"] == 12
        assert found.unknown == ()


def test_none_may_stand_for_something() -> None:
    assert to_right(LEFT | {"inner": None}).names["filter"] == 48


def test_tensors_win_over_flags_and_say_so() -> None:
    found = to_right(LEFT | {"bias": False}, {"bias": True})
    assert found.config["model"]["use_bias"] is True
    assert found.names["bias"] is True
    assert found.warnings == ("the config says bias = False, the checkpoint has such tensors: corrected",)
    assert to_right(LEFT, {"bias": True}).warnings == ()


def test_two_flags_of_one_field_must_agree() -> None:
    table = ConfigTable((Flag("bias", "qkv_bias", "a"), Flag("bias", "out_bias", "b")))
    assert table.convert({"bias": True}).config == {"qkv_bias": True, "out_bias": True}
    with pytest.raises(ConfigError, match="bias would have to be both True and False"):
        table.inverse().convert({"qkv_bias": True, "out_bias": False})


@pytest.mark.parametrize(
    ("release", "fields"),
    [((), {"name"}), ((2, 10), {"name"}), ((2, 4), {"name"}), ((2, 3), set()), ((2, 2), {"was_called"})],
)
def test_releases_are_tuples(release: tuple[int, ...], fields: set[str]) -> None:
    assert to_right(LEFT, release=release).config["model"].keys() & {"name", "was_called"} == fields


def test_conditions_and_warnings() -> None:
    assert to_right(LEFT, {"wide": True}).config["model"]["only_wide"] is True
    assert "only_wide" not in to_right(LEFT).config["model"]
    assert to_right(LEFT | {"rope": "odd"}).warnings == ("rope is odd",)


def test_the_section_may_lie_deeper_and_what_nobody_reads_is_lost() -> None:
    found = to_left({"trainer": {"init": {"model": RIGHT["model"] | {"extra": [1]}}, "seed": 3}, "more": {}})
    assert found.config["hidden_size"] == 12
    assert found.lost == {"trainer": {"init": {"model": {"half": 6, "extra": [1]}}, "seed": 3}, "more": {}}


def test_paths() -> None:
    config: dict[str, Any] = {}
    plant(config, "a.b", 1)
    plant(config, "a.c.d", None)
    assert config == {"a": {"b": 1, "c": {"d": None}}}
    assert dig(config, "a.c.d") is None
    merge(config, {"a": {"b": 2, "x": 3}, "y": 4})
    assert config == {"a": {"b": 1, "c": {"d": None}, "x": 3}, "y": 4}
    assert missing_from({"a": {"b": 1}}, config) == {"a": {"c": {"d": None}, "x": 3}, "y": 4}
