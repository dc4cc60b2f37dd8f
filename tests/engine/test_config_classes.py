"""What the classes of a table's sides decide: kinds, spellings, releases; nothing is passed over in silence."""

from __future__ import annotations

from typing import Any

import pytest

from convkit.config import (
    ABSENT,
    AMOUNT,
    COUNT,
    EVERY_VALUE,
    FLAG,
    LIST,
    NUMBER,
    REQUIRED,
    SECTION,
    TEXT,
    Answer,
    ClassField,
    ConfigClass,
    ConfigTable,
    Constant,
    Coupled,
    Deviation,
    Field,
    Flag,
    Rest,
    Written,
)
from convkit.config.classes import Classes
from convkit.config.fates import Fate, fates
from convkit.config.rows import Row
from convkit.errors import ConfigError
from convkit.mapping import Component, Layout, Mapping, pack

HERE = ConfigClass("Here", "here.py", {
    "size": ClassField(COUNT, 8, also=("d_model", "width")),
    "heads": ClassField(COUNT, 4, told=True),
    "act": ClassField(TEXT, "gelu", moved=(((2, 2), "relu"), ((2, 4), "tanh"))),
    "eps": ClassField(NUMBER, 1e-5),
    "bias": ClassField(FLAG, True),
    "labels": ClassField(COUNT, 2),
    "dropout": ClassField(NUMBER, 0.1, EVERY_VALUE),
    "window": ClassField(COUNT.or_null, None, why="each token sees a few others"),
    "moe": ClassField(SECTION, {}),
})  # fmt: skip
THERE = ConfigClass("There", "there.py", {
    "dim": ClassField(COUNT, 8),
    "n_heads": ClassField(COUNT.or_null, None),
    "nonlinearity": ClassField(TEXT, "gelu"),
    "inner": ClassField(COUNT.or_null, None, since=(2, 3), until=(2, 9)),
    "name": ClassField(TEXT, ABSENT, EVERY_VALUE, since=(2, 4)),
    "classes": ClassField(COUNT, 2),
})  # fmt: skip


def table(*rows: Row, left: Classes = HERE, right: Classes = THERE, **more: Any) -> ConfigTable:
    return ConfigTable(rows, left, right, **more)


def refused(table: ConfigTable, config: dict[str, Any], **more: Any) -> ConfigError:
    with pytest.raises(ConfigError) as refusal:
        table.convert(config, **more)
    assert refusal.value.remedy
    return refusal.value


# --- reading ------------------------------------------------------------------------------------------------


SIZE = table(Field("size", "dim", "size"))


def test_values_are_read_by_their_kind_in_every_row() -> None:
    seen: list[dict[str, Any]] = []

    def look(values: dict[str, Any], names: dict[str, Any]) -> Answer:
        seen.append(values)
        return Answer()

    rows = (Field("size", "dim"), Coupled(("heads", "eps"), (), look, look), Constant("left", "labels", 3))
    found = table(*rows).convert({"size": "1e3", "heads": 4.0, "eps": "1e-6", "labels": "3"})
    assert found.config == {"dim": 1000}
    assert seen == [{"heads": 4, "eps": 1e-6}]
    assert all(type(value) is not str for value in seen[0].values())
    for field, value in (("size", True), ("heads", -1), ("eps", "small"), ("labels", None)):
        error = refused(table(*rows), {field: value})
        assert error.key == field
        assert str(HERE.fields[field].kind) in str(error)
    error = refused(table(Flag("bias", "flag", "bias"), right=None), {"bias": "false"})
    assert (error.key, error.problem) == ("bias", "is 'false', which isn't a boolean")


def test_a_value_that_the_target_cannot_hold_is_refused_under_its_name_in_the_source() -> None:
    error = refused(table(Field("bias", "classes")), {"bias": True})
    assert (error.key, error.problem) == ("bias", "is True, which classes can't be")


@pytest.mark.parametrize("spelling", ["size", "d_model", "width"])
def test_a_field_is_read_under_any_of_its_names(spelling: str) -> None:
    found = SIZE.convert({spelling: 12})
    assert found.config == {"dim": 12}
    assert found.defaults == ()
    assert SIZE.inverse().convert(found.config).config == {"size": 12}
    assert SIZE.convert({spelling: 12, "width": "12"}).config == {"dim": 12}


def test_two_names_that_differ_are_refused_by_both() -> None:
    error = refused(SIZE, {"width": 9, "d_model": "12"})
    assert error.key == "d_model"
    assert error.problem == "is '12', but width, another name of the same field, is 9"


def test_names_come_back_as_they_were() -> None:
    for config in ({"width": 12}, {"size": 12, "width": 12}, {"size": 12}):
        back = SIZE.inverse().convert(SIZE.convert(config).config).config
        SIZE.inverse().respelled(back, config)
        assert back == config


def test_a_default_that_no_tensor_can_contradict_is_taken_with_a_warning() -> None:
    heads = table(Field("heads", "n_heads"))
    found = heads.convert({})
    assert found.warnings == ("heads isn't in the config, and no tensor can show it: its default of Here is taken, 4",)
    assert found.defaults == ({"name": "heads", "value": 4, "source": "here.py"},)
    assert heads.convert({"heads": 4}).warnings == ()


@pytest.mark.parametrize(
    ("release", "default"),
    [((2, 1), "relu"), ((2, 2), "tanh"), ((2, 3), "tanh"), ((2, 4), "gelu"), ((2, 10), "gelu"), ((), "gelu")],
)
def test_defaults_are_those_of_the_release(release: tuple[int, ...], default: str) -> None:
    found = table(Field("act", "nonlinearity")).convert({}, release=release)
    assert found.config == {"nonlinearity": default}


def test_a_row_may_have_a_default_of_its_own() -> None:
    assert table(Field("size", "dim", left_default=3)).convert({}).config == {"dim": 3}
    assert refused(table(Field("size", "dim", left_default=REQUIRED)), {}).key == "size"
    assert table(Field("size", "dim", left_default=ABSENT)).convert({}).config == {}


def test_the_tensors_know_a_size_better() -> None:
    labels = table(Field("labels", "classes", "labels", measured="labels"))
    assert labels.convert({"labels": 3}, {"labels": 5}).config == {"classes": 5}
    assert labels.convert({"labels": 3}, {"labels": 5}).warnings == (
        "the config says labels = 3, the tensors have 5: corrected",
    )
    assert labels.convert({}, {"labels": 5}).warnings == ()
    assert labels.convert({"labels": 3}).config == {"classes": 3}


def test_another_value_of_a_constant_may_be_accepted() -> None:
    act = table(Constant("left", "act", "gelu_new", also=("gelu",)))
    assert act.convert({"act": "gelu_new"}).warnings == act.convert({"act": "gelu"}).warnings == ()
    assert act.convert({}).config == {}
    assert refused(act, {"act": "relu"}).key == "act"


def test_the_class_may_depend_on_what_rows_declare() -> None:
    other = HERE.extended("Other", "other.py", size=ClassField(COUNT, 99))

    def declared(values: dict[str, Any], _: dict[str, Any]) -> Answer:
        return Answer(names={"other": values.get("act") == "other"})

    either = table(Coupled(("act",), (), declared, declared), Field("size", "dim"), left=(("other", other), ("", HERE)))
    assert either.convert({"act": "other"}).config == {"dim": 99}
    assert either.convert({"act": "other"}).defaults[0]["source"] == "other.py"
    assert either.convert({}).config == {"dim": 8}
    assert refused(either, {"act": 3}).key == "act", "read before the class is known"


# --- deviations ---------------------------------------------------------------------------------------------


NEAR = (("gelu", "gelu"), ("tanh_gelu", "gelu", "another curve"), ("relu", "relu"), ("relu", "hard_relu", "clipped"))
ACT = table(Field("act", "nonlinearity", values=NEAR), left_at=("text", ""))


def test_a_value_that_can_only_nearly_be_said_is_a_deviation() -> None:
    found = ACT.convert({"text": {"act": "tanh_gelu"}})
    assert found.config == {"nonlinearity": "gelu"}
    assert found.names["act"] == "tanh_gelu"
    assert found.deviations == (Deviation("text.act", "tanh_gelu", "gelu", "another curve"),)
    back = ACT.inverse().convert(found.config)
    assert (back.config, back.deviations) == ({"text": {"act": "gelu"}}, ()), "the exact pair wins"
    back = ACT.inverse().convert({"nonlinearity": "hard_relu"})
    assert back.config == {"text": {"act": "relu"}}
    assert back.deviations == (Deviation("nonlinearity", "hard_relu", "relu", "clipped"),)


def test_a_deviation_needs_an_exact_pair_beside_it() -> None:
    with pytest.raises(ValueError, match="no exact pair says what 'a', 'b' means"):
        Field("act", "nonlinearity", values=(("a", "b", "why"),))


# --- writing ------------------------------------------------------------------------------------------------


INNER = table(Field("window", "inner"), Written("right", "name", "this"))


@pytest.mark.parametrize(
    ("release", "written"),
    [((2, 2), set()), ((2, 3), {"inner"}), ((2, 4), {"inner", "name"}), ((2, 9), {"name"}), ((), {"name"})],
)
def test_only_what_the_class_of_the_release_has_is_written(release: tuple[int, ...], written: set[str]) -> None:
    assert INNER.convert({}, release=release).config.keys() == written
    if "inner" in written:
        assert INNER.convert({"window": 4}, release=release).config["inner"] == 4
        return
    error = refused(INNER, {"window": 4}, release=release)
    assert error.key == "inner"
    assert error.remedy == "another --release: it exists since 2.3 and until 2.9"


def test_a_field_of_a_section_is_as_old_as_the_section() -> None:
    there = ConfigClass("There", "there.py", {"moe": ClassField(SECTION, {}, since=(2, 3))})
    experts = table(Field("labels", "moe.experts"), right=there)
    assert experts.convert({"labels": 3}, release=(2, 3)).config == {"moe": {"experts": 3}}
    assert refused(experts, {"labels": 3}, release=(2, 2)).key == "moe.experts"


def test_a_path_may_be_of_the_whole_config() -> None:
    rate = table(
        Field("size", "dim"), Field("/optimizer.rate", "/rate", "rate", ABSENT, ABSENT), left_at=("model",),
        right_at=("init.model",),
    )  # fmt: skip
    config = {"model": {"size": 3}, "optimizer": {"rate": 0.1, "beta": 2}}
    there = rate.convert(config)
    assert there.config == {"init": {"model": {"dim": 3}}, "rate": 0.1}
    assert there.lost == {"optimizer": {"beta": 2}}
    assert rate.inverse().convert(there.config).config == {"model": {"size": 3}, "optimizer": {"rate": 0.1}}


def test_the_rest_stays_as_it_is() -> None:
    rows = (
        Field("size", "dim"),
        Field("of.0.a", "of.0.b", "a", ABSENT, ABSENT),
        Rest(left_out=("eps",)),
    )
    config = {"size": "3", "eps": 1, "moe": {"n": {}}, "new": [1], "act": "1e5", "of": [{"a": 1, "c": 2}]}
    found = table(*rows).convert(config)
    assert found.config == {"dim": 3, "moe": {"n": {}}, "new": [1], "act": "1e5", "of": [{"b": 1, "c": 2}]}
    assert (found.lost, found.unknown) == ({}, ())


# --- totality -----------------------------------------------------------------------------------------------


def test_a_field_that_no_row_reads_must_have_no_effect() -> None:
    for config in ({"window": None}, {"eps": "1e-5"}, {"dropout": 0.7}, {"moe": {}}, {"heads": 4, "bias": True}):
        assert SIZE.convert(config).unknown == ()
    for field, value in (("window", 4), ("eps", 1e-6), ("bias", False), ("moe", {"n": 2}), ("act", "y")):
        error = refused(SIZE, {field: value})
        assert error.key == field
        assert "There" in str(error)
    assert "each token sees a few others" in refused(SIZE, {"window": 4}).problem


@pytest.mark.parametrize(("field", "value"), [("bias", "x"), ("dropout", "any"), ("dropout", [0.1]), ("window", 0.5)])
def test_a_field_that_no_row_reads_is_checked_against_its_kind(field: str, value: Any) -> None:
    error = refused(SIZE, {field: value})
    assert error.key == field
    assert "which isn't a" in str(error)


def test_a_default_of_the_release_must_have_no_effect_either() -> None:
    scaled = HERE.extended("Scaled", scale=ClassField(NUMBER, 2.0, 1.0, since=(2, 3)))
    assert refused(table(Field("size", "dim"), left=scaled), {}).key == "scale"
    assert table(Field("size", "dim"), left=scaled).convert({"scale": 1}).config == {"dim": 8}
    assert table(Field("size", "dim"), left=scaled).convert({}, release=(2, 2)).config == {"dim": 8}
    assert table(Field("size", "dim"), Field("scale", "x"), left=scaled, right=None).convert({}).config["x"] == 2.0


def test_fields_that_the_class_does_not_know_are_listed_and_kept() -> None:
    found = table(Field("size", "dim"), left_at=("model",)).convert({"model": {"size": 3, "new": {"a": 1}}, "run": 1})
    assert found.unknown == ("new",)
    assert found.lost == {"model": {"new": {"a": 1}}, "run": 1}
    assert ConfigTable((Field("size", "dim"),)).convert({"size": 3, "new": 1}).unknown == (), "there is no class"


def test_a_section_is_read_whole_or_part_by_part() -> None:
    experts = table(Field("moe.experts", "classes", "experts", 2))
    assert experts.convert({"moe": {"experts": 4}}).config == {"classes": 4}
    assert refused(experts, {"moe": {"experts": 4, "top_k": 2}}).key == "moe.top_k"
    gated = {"moe.top_k": ClassField(COUNT, 1), "moe.noise": ClassField(NUMBER, 0.0, EVERY_VALUE)}
    declared = table(*experts.rows, left=ConfigClass("Gated", "", {**HERE.fields, **gated}))
    assert declared.convert({"moe": {"experts": 4, "top_k": 1, "noise": 3}}).config == {"classes": 4}
    assert refused(declared, {"moe": {"experts": 4, "top_k": 2}}).key == "moe.top_k"


def test_a_section_that_is_read_whole_is_read_by_the_kinds_of_its_parts() -> None:
    seen: list[dict[str, Any]] = []

    def look(values: dict[str, Any], names: dict[str, Any]) -> Answer:
        seen.append(values)
        return Answer()

    rope = ClassField(SECTION.of(factor=AMOUNT, lengths=LIST.of(COUNT.or_null)).or_null, None)
    scaled = table(Coupled(("rope",), (), look, look), left=HERE.extended("Scaled", rope=rope))
    found = scaled.convert({"rope": {"factor": "2.5", "lengths": ["4", None, 8.0], "odd": "5"}})
    assert seen == [{"rope": {"factor": 2.5, "lengths": [4, None, 8], "odd": "5"}}]
    assert found.unknown == ("rope.odd",)
    assert scaled.convert({"rope": None}).unknown == ()
    for value, key in (({"factor": -1}, "rope.factor"), ({"lengths": [1, 0]}, "rope.lengths.1"), ([1], "rope")):
        assert refused(scaled, {"rope": value}).key == key


def test_the_fate_of_every_field_can_be_listed() -> None:
    rows = (
        Field("size", "dim"),
        Constant("left", "act", "gelu"),
        Field("moe.experts", "classes"),
        Written("right", "name", "x"),
        Constant("right", "nown", 1),
        Field("d_model", "n_heads"),
    )
    left = HERE.extended("Left", scale=ClassField(NUMBER, 2.0, 1.0))
    found = {(fate.side, fate.field): fate.what for fate in fates(table(*rows, left=left))}
    assert found == {
        ("left", "size"): "row",
        ("left", "heads"): "neutral",
        ("left", "act"): "constant",
        ("left", "eps"): "neutral",
        ("left", "bias"): "neutral",
        ("left", "labels"): "neutral",
        ("left", "dropout"): "no effect",
        ("left", "window"): "neutral",
        ("left", "moe"): "row",
        ("left", "scale"): "refused",
        ("left", "d_model"): "unknown",
        ("right", "dim"): "row",
        ("right", "n_heads"): "row",
        ("right", "nonlinearity"): "neutral",
        ("right", "inner"): "neutral",
        ("right", "name"): "no effect",
        ("right", "classes"): "row",
        ("right", "nown"): "unknown",
    }
    assert Fate("left", "Here", "heads", "row") in fates(table(Rest()))
    assert fates(ConfigTable(rows)) == ()


# --- packs --------------------------------------------------------------------------------------------------


def test_a_pack_is_total_section_by_section() -> None:
    left, right = (Layout(name, "", "safetensors", "config.json") for name in ("left/tiny", "right/tiny"))
    part = Mapping(left, right, (), table(Field("size", "dim"), ACT.rows[0]))
    both = pack(
        left, right, {"a": Component(part, left_section="parts.a"), "b": part},
        ConfigTable((Field("parts.a.window", "window", "window", ABSENT), Field("b.extra", "extra", "extra", 1))),
    ).config  # fmt: skip
    config = {"parts": {"a": {"width": "6", "act": "tanh_gelu", "window": 3, "odd": 1}}, "b": {"extra": 5}}
    found = both.convert(config)
    assert found.config == {
        "a": {"dim": 6, "nonlinearity": "gelu"}, "b": {"dim": 8, "nonlinearity": "gelu"}, "window": 3, "extra": 5,
    }  # fmt: skip
    assert found.deviations == (Deviation("parts.a.act", "tanh_gelu", "gelu", "another curve"),)
    assert found.unknown == ("parts.a.odd",)
    config["b"]["window"] = 3
    assert refused(both, config).key == "b.window"
    back = both.inverse().convert(found.config).config
    both.inverse().respelled(back, config)
    assert back["parts"]["a"] == {"width": 6, "act": "gelu", "window": 3}


def test_a_written_section_is_the_configs_own() -> None:
    section = {"beta": 0.1}
    rows = ConfigTable((Written("right", "dpo", section), Field("sizes", "sizes")))
    given = {"sizes": [1, 2]}
    made = rows.convert(given).config
    made["dpo"]["beta"], made["sizes"][0] = 9, 9
    assert section == {"beta": 0.1} and given == {"sizes": [1, 2]}
