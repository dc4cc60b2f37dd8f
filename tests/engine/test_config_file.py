"""Finding and reading the config of a checkpoint."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from convkit.errors import ConvkitError
from convkit.files.config_file import find_config, no_config, read_config, write_config

PLACES = [
    # the checkpoint, the files around it, the config
    ("m", ["m/config.json", "m/params.yaml"], "m/config.json"),
    ("m", ["m/params.yaml", "m/other.yaml"], "m/params.yaml"),
    ("m", ["m/config_to_cs-2.4.yaml"], "m/config_to_cs-2.4.yaml"),
    ("m", ["m/config_to_cs-2.4.yaml", "m/config_to_cs-2.5.yaml"], None),
    ("m", ["m/other.yaml"], None),
    ("m", ["m/m.mdl", "m/m.yaml", "m/other.yaml", "m/config.json"], "m/m.yaml"),
    ("m", ["m/m.mdl", "m/m.yaml", "m/model.safetensors", "m/config.json"], "m/config.json"),
    ("m", ["m/a.mdl", "m/b.mdl", "m/a.yaml"], None),
    ("m", ["config.json"], None),
    ("m.mdl", ["m.yaml", "params.yaml", "m.json"], "m.yaml"),
    ("m.mdl", ["params.yaml", "other.yaml", "config.json"], "params.yaml"),
    ("m.mdl", ["config_to_cs-2.4.yaml"], "config_to_cs-2.4.yaml"),
    ("m.mdl", ["m.yml"], "m.yml"),
    ("m.mdl", ["other.yaml"], None),
    ("m.mdl", ["config.json"], None),
    ("m.pt", ["m.json", "config.json"], "m.json"),
    ("m.pt", ["config.json", "params.yaml"], "config.json"),
    ("m.pt", ["other.yaml"], None),
]


@pytest.mark.parametrize(("checkpoint", "files", "expected"), PLACES)
def test_the_config_is_found_by_its_name(
    checkpoint: str, files: list[str], expected: str | None, tmp_path: Path
) -> None:
    path = tmp_path / checkpoint
    path.write_bytes(b"") if path.suffix else path.mkdir()
    for name in files:
        (tmp_path / name).write_text("{}")
    assert find_config(path) == (tmp_path / expected if expected else None)


@pytest.mark.parametrize("place", ["m.mdl", "."])
def test_configs_of_other_names_are_named(place: str, tmp_path: Path) -> None:
    (tmp_path / "m.mdl").touch()
    assert no_config(tmp_path / place) == ("has no config beside it", "name the config: --config")
    for name in ("params_b.yaml", "params_a.yaml"):
        (tmp_path / name).write_text("{}")
    problem, remedy = no_config(tmp_path / place)
    assert problem == "has no config of its own name beside it; params_a.yaml, params_b.yaml lie there"
    assert remedy == f"name the model's: --config {tmp_path / 'params_a.yaml'}"


def test_one_kind_of_config_may_be_asked_for(tmp_path: Path) -> None:
    for name in ("config.json", "params.yaml"):
        (tmp_path / name).write_text("{}")
    assert find_config(tmp_path, (".yaml",)) == tmp_path / "params.yaml"
    assert find_config(tmp_path, (".json",)) == tmp_path / "config.json"


@pytest.mark.parametrize("name", ["config.json", "params.yaml"])
def test_a_config_is_read_as_it_was_written(name: str, tmp_path: Path) -> None:
    config = {"z": 1, "model": {"eps": 1e-5, "name": "naïve", "none": None, "list": [1, 2.5, True]}}
    write_config(tmp_path / name, config)
    assert read_config(tmp_path / name) == config


@pytest.mark.parametrize("name", ["config.json", "params.yaml"])
def test_numbers_that_json_cannot_say_come_back(name: str, tmp_path: Path) -> None:
    write_config(tmp_path / name, {"clip": [math.inf, -math.inf], "of": {"step": math.nan}})
    found = read_config(tmp_path / name)
    assert found["clip"] == [math.inf, -math.inf]
    assert math.isnan(found["of"]["step"])


def test_they_are_spelled_as_transformers_spells_them(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    transformers.PreTrainedConfig(time_step_limit=(0.0, math.inf)).to_json_file(tmp_path / "config.json")
    assert read_config(tmp_path / "config.json")["time_step_limit"] == [0.0, math.inf]
    write_config(tmp_path / "config.json", {"model_type": "llama", "time_step_limit": [0.0, math.inf]})
    json.loads((tmp_path / "config.json").read_text(), parse_constant=pytest.fail)
    assert transformers.PreTrainedConfig.from_pretrained(tmp_path).time_step_limit == [0.0, math.inf]


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("c.json", "{", "is not valid JSON"),
        ("metadata", "a: 1", "is not valid JSON"),
        ("c.yaml", "a: [", "is not valid YAML"),
        ("c.yaml", "- 1", "isn't a dict"),
        ("c.json", json.dumps([1]), "isn't a dict"),
        ("absent.json", None, "can't be read"),
        ("c.json", '{"a":' * 9999, "nested too deeply"),
    ],
)
def test_what_is_no_config_is_refused_with_its_name(name: str, text: str | None, problem: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(ConvkitError, match=problem) as refusal:
        read_config(tmp_path / name)
    assert refusal.value.path == str(tmp_path / name)
