"""Packs of real families: prefixes and sections that differ by side, the whole below a prefix, rows across sections."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convkit.config import Answer, ConfigTable, Constant, Coupled, Field, Written
from convkit.config.tree import dig, merge, missing_from, plant, unseen
from convkit.errors import ConfigError
from convkit.mapping import Component, LeftBehind, Mapping, Rule, Variant, Verbatim, inverse, pack
from convkit.mapping.pattern import PatternError
from convkit.mappings.cerebras import bert, llama
from convkit.plan import open_source
from engine.disk import read
from engine.memory import LEFT, RIGHT, Arrays, assert_same, carried, mapping_of, plan_of
from engine.proof import proven

HERE = Path(__file__).parents[1] / "data" / "goldens" / "cerebras"
MODEL_AT = ("model", "trainer.init.model")
CS = Variant("cs", "right", ("model.", ""), "{=cs}{p:text|question}{rest:*}")
NOT_THE_MODEL = LeftBehind("right", "{rest:*}", "not part of the model", unless="{=cs}")
BARE = {"cs": ""}


def golden(name: str) -> tuple[Arrays, dict[str, Any]]:
    folder = HERE / name / "hf"
    return read(folder), json.loads((folder / "config.json").read_text())


def below(prefix: str, arrays: Arrays) -> Arrays:
    return {prefix + key: array for key, array in arrays.items()}


def alone(mapping: Mapping, arrays: Arrays, config: dict[str, Any]) -> tuple[Arrays, dict[str, Any]]:
    """What a family's own mapping makes of a component: its leaves below no prefix, and its model section."""
    made = carried(mapping, arrays, config, choices={"cs": ""})
    return made, plan_of(mapping, arrays, config).target_config["model"]


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype("float32")


# --- an image model, a projector, a text model ----------------------------------------------------------------

PROJECTOR = Rule("text_model.model.mm_projector.{n:0|2}.{p:weight|bias}",
                 "{=cs}projector.ffn.{n}.linear_layer.{p}", "o ... -> o ...")  # fmt: skip
LLAVA = pack(
    LEFT,
    RIGHT,
    {
        "image_model": Component(
            bert.MAPPING,
            right_section="image_model_list.image_models.0.image_encoder",
            choices=BARE,
        ),
        "text_model": Component(llama.MAPPING, right="text.", right_section="text", choices=BARE,
                                rows=(Constant("right", "name", "LlamaModel"),)),
    },
    ConfigTable(
        (
            Constant("right", "name", "llava"),
            Field("text_model.mm_hidden_size", "projector.input_unit", "mm_hidden"),
            Field("text_model.mm_select", "image_model_list.select", "select", "patch", "patch"),
            Written("right", "projector.output_unit", lambda names: names["text_model.hidden"]),
        ),
        right_at=MODEL_AT,
    ),
    under=("", "{=cs}"),
    rules=(PROJECTOR, NOT_THE_MODEL),
    variants=(CS,),
)  # fmt: skip


def llava() -> tuple[Arrays, dict[str, Any], Arrays, dict[str, Any]]:
    """Both sides of a checkpoint of it, made from its parts."""
    (image, image_config), (text, text_config) = golden("bert"), golden("llama_gqa")
    projector = {f"mm_projector.{n}.{p}": numbers(*shape) for n in "02" for p, shape in
                 (("weight", (32, 32)), ("bias", (32,)))}  # fmt: skip
    left = below("image_model.", image) | below("text_model.", text) | below("text_model.model.", projector)
    config = {"image_model": image_config, "text_model": text_config | {"mm_hidden_size": 32, "mm_select": "cls"}}
    (image_made, image_section), (text_made, text_section) = (
        alone(bert.MAPPING, image, image_config),
        alone(llama.MAPPING, text, text_config),
    )
    right = below("model.image_model.", image_made) | below("model.text.", text_made)
    right |= {f"model.projector.ffn.{key[13]}.linear_layer.{key[15:]}": array for key, array in projector.items()}
    section = {
        "name": "llava",
        "projector": {"input_unit": 32, "output_unit": 32},
        "image_model_list": {"select": "cls", "image_models": [{"image_encoder": image_section}]},
        "text": text_section | {"name": "LlamaModel"},
    }
    return left, config, right, {"model": section}


def test_a_pack_like_llava_is_its_parts_with_a_projector(tmp_path: Path) -> None:
    left, config, right, right_config = llava()
    assert_same(proven(tmp_path, LLAVA, left, config), right)
    with open_source(tmp_path / "right") as made:
        assert made.config == right_config
    assert inverse(inverse(LLAVA)) == LLAVA


def test_a_training_checkpoint_of_a_pack_comes_back(tmp_path: Path) -> None:
    """From the other side: what isn't of the model stays behind, and the config may be a training config."""
    left, _, right, right_config = llava()
    trained = {"trainer": {"init": {"model": right_config["model"], "seed": 3}}}
    found = proven(tmp_path, inverse(LLAVA), right | {"optimizer.mu": numbers(2)}, trained)
    assert_same({key: found[key] for key in left}, left)


def test_what_a_section_in_a_list_says_more_is_kept(tmp_path: Path) -> None:
    _, _, right, config = llava()
    image = config["model"]["image_model_list"]["image_models"][0]
    image["image_encoder"]["seen_by_nobody"] = 3
    image["beside"] = {"it": 4}
    proven(tmp_path, inverse(LLAVA), right, config)


@pytest.mark.parametrize(
    ("path", "value", "key", "why"),
    [
        ("image_model", 3, "image_model", "no such section"),
        ("text_model.hidden_act", "nothing", "text_model.hidden_act", "no counterpart"),
        ("text_model.mm_hidden_size", "gone", "", "is missing"),
    ],
)
def test_what_a_section_says_wrongly_is_named(path: str, value: Any, key: str, why: str) -> None:
    left, config, _, _ = llava()
    if value == "gone":
        del config["text_model"]["mm_hidden_size"]
        key = path
    else:
        plant(config, path, value)
    with pytest.raises(ConfigError, match=why) as refusal:
        plan_of(LLAVA, left, config)
    assert (refusal.value.key or "").startswith(key)


# --- two encoders ---------------------------------------------------------------------------------------------


def encoder(name: str) -> Component:
    return Component(bert.MAPPING, left=f"{name}.bert_model.", right=f"{name}.", left_section=f"{name[0]}_encoder",
                     right_section=f"{name[0]}_encoder", choices=BARE)  # fmt: skip


DPR = pack(
    LEFT,
    RIGHT,
    {"question": encoder("question_encoder"), "context": encoder("ctx_encoder")},
    ConfigTable((Constant("right", "name", "dpr"), Field("projection", "projection", "projection", 0, 0)),
                right_at=MODEL_AT),
    under=("", "{=cs}"),
    rules=(Rule("{n:question|ctx}_encoder.encode_proj.weight", "{=cs}{n}_encoder.projection", "a b -> b a"),
           NOT_THE_MODEL),
    variants=(CS,),
)  # fmt: skip


def test_a_pack_like_dpr_has_names_of_its_own_by_side(tmp_path: Path) -> None:
    names = ("question_encoder", "ctx_encoder")
    parts = [golden("bert"), golden("bert_qa")]
    left: Arrays = {f"{name}.encode_proj.weight": numbers(3, 32 + n) for n, name in enumerate(names)}
    right = {f"model.{name}.projection": left[f"{name}.encode_proj.weight"].T for name in names}
    config: dict[str, Any] = {}
    section: dict[str, Any] = {"name": "dpr", "projection": 0}
    for name, (arrays, own) in zip(names, parts, strict=True):
        made, model = alone(bert.MAPPING, arrays, own)
        left |= below(f"{name}.bert_model.", arrays)
        right |= below(f"model.{name}.", made)
        config[f"{name[0]}_encoder"], section[f"{name[0]}_encoder"] = own, model
    assert_same(proven(tmp_path, DPR, left, config | {"projection": 0}), right)
    with open_source(tmp_path / "right") as made_source:
        assert made_source.config == {"model": section}


# --- declarations ---------------------------------------------------------------------------------------------


def test_a_component_is_declared_rightly() -> None:
    with pytest.raises(PatternError, match="component a: no variant is called 'hf'"):
        pack(LEFT, RIGHT, {"a": Component(mapping_of(Rule("x", "y")), choices={"hf": ""})})
    with pytest.raises(PatternError, match=r"can't stand below 'a.' and 'b.'"):
        pack(LEFT, RIGHT, {"a": Component(mapping_of(Verbatim("x")), left="a.", right="b.")})


def test_a_component_has_a_head_or_not_by_itself() -> None:
    """The base model's prefix is that of the component whose own config says that it has no head."""

    def declared(values: dict[str, Any], _: dict[str, Any]) -> Answer:
        return Answer(names={"headless": values["headless"]})

    part = Mapping(
        LEFT,
        RIGHT,
        (Rule("w", "{=base}w"),),
        ConfigTable((Coupled(("headless",), (), declared, lambda values, names: Answer()),)),
        variants=(Variant("base", "right", ("model.", ""), "{=base}w", headless=""),),
    )
    both = pack(LEFT, RIGHT, {"a": part, "b": part})
    config = {"a": {"headless": True}, "b": {"headless": False}}
    assert sorted(carried(both, {"a.w": numbers(1), "b.w": numbers(2)}, config)) == ["a.w", "b.model.w"]


def test_rows_stand_in_the_place_of_those_that_speak_of_the_same() -> None:
    kept = Field("a", "b")
    table = ConfigTable((Constant("right", "name", "one"), kept, Constant("left", "name", "one")))
    rows = (Constant("right", "name", "two"), Constant("right", "b", 3))
    part = Component(Mapping(LEFT, RIGHT, (), table), rows=rows)
    assert part.section("x").table.rows == (kept, table.rows[2], *rows)


def test_lists_of_sections_are_read_written_and_compared() -> None:
    config: dict[str, Any] = {"of": [{"a": 1}, {"a": 2, "b": {"c": 3}}], "n": [1, 2]}
    assert dig(config, "of.1.b.c") == 3 and dig(config, "of.1") == config["of"][1]
    assert repr(dig(config, "of.2.a")) == repr(dig(config, "of.x")) == repr(dig(config, "n.0.a")) == "MISSING"
    assert unseen(config, {"of.0.a", "of.1.b.c", "n"}) == {"of": [{}, {"a": 2}]}
    assert unseen(config, {"n"}) == {"of": config["of"]}
    other: dict[str, Any] = {}
    for path in ("of.1.b.c", "of.0.a", "of.1.a"):
        plant(other, path, dig(config, path))
    assert other == {"of": config["of"]}
    less = {"of": [{"a": 1}, {"b": {}}], "n": [3, 4]}
    assert missing_from(less, config) == {"of": [{}, {"a": 2, "b": {"c": 3}}]}
    merge(less, missing_from(less, config))
    assert less == config | {"n": [3, 4]}
