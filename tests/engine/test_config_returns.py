"""A config comes back with the receipt as it was: under its own names, with what was said only nearly or is unknown."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from convkit.config import COUNT, TEXT, ClassField, ConfigClass, ConfigTable, Field
from convkit.fetch import fetch
from convkit.files.config_file import read_config, write_config
from convkit.mapping import Rule, inverse
from convkit.plan import Options, make_plan, open_source
from engine.disk import converted, write
from engine.memory import mapping_of
from engine.proof import judged, proven

CLASS = ConfigClass("Left", "left.py", {
    "size": ClassField(COUNT, also=("d_model", "width")),
    "act": ClassField(TEXT, "gelu", also=("activation",)),
})  # fmt: skip
ROWS = (
    Field("size", "dim", "size"),
    Field("act", "act", values=(("gelu", "gelu"), ("tanh_gelu", "gelu", "another curve"), ("relu", "relu"))),
)
BARE = mapping_of(Rule("a", "b", "d -> d", d="size"))
MAPPING = replace(BARE, config=ConfigTable(ROWS, left=CLASS))
CONFIGS: list[dict[str, Any]] = [
    {"size": 3, "act": "gelu"},
    {"width": 3, "activation": "relu", "new": {"a": [1]}},
    {"size": 3, "d_model": 3, "act": "tanh_gelu"},
    {"d_model": 3, "activation": "tanh_gelu", "new": None},
    {"width": 3},
    {"size": 3, "new": {}},
]
#: fields whose defaults are these tiny models' values, and that may be left out
OPTIONAL = {
    "llama?kv_heads=6": ("architectures", "num_key_value_heads", "head_dim", "attention_bias", "mlp_bias",
                         "initializer_range", "attention_dropout", "rope_theta", "rope_parameters", "rope_scaling"),
    "gpt2": ("architectures", "activation_function", "scale_attn_weights", "resid_pdrop", "attn_pdrop",
             "initializer_range", "tie_word_embeddings"),
    "bert": ("architectures", "hidden_act", "hidden_dropout_prob", "initializer_range", "classifier_dropout"),
}  # fmt: skip


def test_numbers_that_json_cannot_say_come_back_through_valid_json(tmp_path: Path) -> None:
    config = {"size": 3, "act": "gelu", "clip": [-math.inf, 1.0], "more": {"step": math.nan}}
    source = write(tmp_path / "left", {"a": np.zeros(3, "float32")}, config)
    converted(source, tmp_path / "right", MAPPING)
    judged(source, tmp_path / "right")
    converted(tmp_path / "right", tmp_path / "back", inverse(MAPPING))
    judged(tmp_path / "right", tmp_path / "back")
    with open_source(tmp_path / "back") as back:
        assert repr(back.config) == repr(config)
    written = list(tmp_path.rglob("*.json"))
    assert len(written) >= 5
    for path in written:
        json.loads(path.read_text(), parse_constant=pytest.fail)


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_a_config_comes_back_as_it_was(config: dict[str, Any], tmp_path: Path) -> None:
    proven(tmp_path, MAPPING, {"a": np.zeros(3, "float32")}, config)
    with open_source(tmp_path / "back") as back:
        assert back.config == config


@pytest.mark.parametrize("uri", OPTIONAL)
def test_what_a_config_left_out_is_left_out_again(uri: str, tmp_path: Path) -> None:
    family, _, _ = uri.partition("?")
    source, made, back = (tmp_path / name for name in ("source", "made.mdl", "back"))
    fetch(f"generated://{uri}", source)
    config = {key: value for key, value in read_config(source / "config.json").items() if key not in OPTIONAL[uri]}
    write_config(source / "config.json", config)
    converted(source, made, f"cerebras/{family}")
    converted(made, back, f"hf/{family}")
    assert read_config(back / "config.json") == config
    changed = read_config(tmp_path / "made.yaml")
    changed["model"]["initializer_range"] = 0.5
    write_config(tmp_path / "made.yaml", changed)
    converted(made, tmp_path / "again", f"hf/{family}")
    assert read_config(tmp_path / "again" / "config.json") == config | {"initializer_range": 0.5}


@pytest.mark.parametrize("family", ["llama", "gpt_neox", "bert"])
def test_a_config_that_transformers_wrote_comes_back_without_another_field(family: str, tmp_path: Path) -> None:
    """Where one field says what another one says, such as the base of rotary positions, it isn't added."""
    source, made, back = (tmp_path / name for name in ("source", "made", "back"))
    fetch(f"generated://{family}", source)
    converted(source, made, "cerebras")
    converted(made, back, "hf")
    assert read_config(back / "config.json") == read_config(source / "config.json")


def test_the_model_comes_back_to_its_place_in_the_config(tmp_path: Path) -> None:
    placed = replace(BARE, config=ConfigTable(ROWS, left=CLASS, left_at=("model", "trainer.init.model")))
    config = {"trainer": {"init": {"model": {"width": 3, "act": "tanh_gelu"}, "seed": 1}}, "more": {}}
    proven(tmp_path, placed, {"a": np.zeros(3, "float32")}, config)
    with open_source(tmp_path / "back") as back:
        assert back.config == config


def test_the_plan_lists_what_the_class_does_not_know(tmp_path: Path) -> None:
    source = write(tmp_path / "left", {"a": np.zeros(3, "float32")}, {"size": "3", "new": 1, "newer": {"b": 2}})
    with open_source(source) as opened:
        plan = make_plan(opened, MAPPING, options=Options())
    assert plan.unknown == ("new", "newer")
    assert plan.target_config == {"dim": 3, "act": "gelu"}
    assert plan.to_json()["unknown"] == ["new", "newer"]


def test_a_field_that_was_changed_meanwhile_stays_changed(tmp_path: Path) -> None:
    source = write(tmp_path / "left", {"a": np.zeros(3, "float32")}, {"width": 3, "activation": "tanh_gelu"})
    converted(source, tmp_path / "right", MAPPING)
    config = tmp_path / "right" / "config.json"
    write_config(config, read_config(config) | {"act": "relu"})
    converted(tmp_path / "right", tmp_path / "back", inverse(MAPPING))
    assert read_config(tmp_path / "back" / "config.json") == {"width": 3, "activation": "relu"}
