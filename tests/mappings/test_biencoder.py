"""DPR and DRAGON: two encoders in folders, against what ModelZoo's converter recorded."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from goldens import golden_dir
from mappings.test_llava import carried, config_of, flat, same_tensors

from convkit.cli import main
from convkit.config.tree import plant
from convkit.errors import ConvkitError
from convkit.formats import open_checkpoint
from convkit.mappings import find_mapping
from convkit.plan import make_plan, open_source

CS = "cerebras/dpr-biencoder"
LEFT = {"dpr": "hf/dpr-biencoder", "dragon": "hf/dragon-biencoder"}
CASES = [
    *(("dpr", "base", release) for release in ("2.3", "2.4", "2.9")),
    *(("dpr", case, "2.9") for case in ("pooler", "position_ids")),
    *(("dragon", "base", release) for release in ("2.3", "2.4", "2.9")),
    ("dragon", "position_ids", "2.9"),
]
#: of the base model's tensors, which are recorded once
CONFIGS = [("dragon", case, "2.9") for case in ("projection_dim_0", "projection_dim_eq")]
#: what the original writes for every BERT, and its class takes and doesn't use
UNUSED = {"mlm_nonlinearity", "share_embedding_weights"}
#: what we write where the original doesn't, or otherwise: dragons run as dpr there, in name
OURS = {"add_pooling_layer": False, "pooler_nonlinearity": "tanh", "name": "bert_model"}


def recorded(model: str, case: str, *parts: str) -> Path:
    return golden_dir("cerebras_more.tar.xz", "packed/").joinpath("packed", model, case, *parts)


def there(source: Path, target: Path, model: str, release: str) -> Path:
    return carried(source, target, LEFT[model], CS, tuple(map(int, release.split("."))))


@pytest.mark.golden
@pytest.mark.parametrize(("model", "case", "release"), CASES)
def test_it_is_what_the_original_makes(model: str, case: str, release: str, tmp_path: Path) -> None:
    """And it comes back with all that it had, also the poolers and heads that nobody uses."""
    source, golden = recorded(model, case, "hf"), recorded(model, case, f"hf-cs-{release}")
    made = there(source, tmp_path / "m.mdl", model, release)
    same_tensors(made, golden / "flat.npz")
    theirs = dict(flat(yaml.safe_load((golden / f"config_to_cs-{release}.yaml").read_text())))
    ours = dict(flat(yaml.safe_load((tmp_path / "m.yaml").read_text())))
    assert {field.rpartition(".")[2] for field in theirs.keys() - ours.keys()} <= UNUSED
    differing = {(field.rpartition(".")[2], value) for field, value in ours.items() if theirs.get(field, "") != value}
    assert differing <= OURS.items()
    assert main(["roundtrip", str(source), str(made)]) == 0
    carried(made, tmp_path / "back", CS, LEFT[model])
    assert main(["diff", str(source), str(tmp_path / "back")]) == 0
    assert config_of(tmp_path / "back") == config_of(source)


@pytest.mark.golden
@pytest.mark.parametrize(("model", "case", "release"), [*CASES, *CONFIGS])
def test_it_comes_back_as_the_original_says(model: str, case: str, release: str, tmp_path: Path) -> None:
    """Except a buffer that transformers makes itself, the names of the authors' models, and ties of no head."""
    golden = recorded(model, case, f"cs-{release}-hf")
    cs = recorded(model, case, f"hf-cs-{release}", f"pytorch_model_to_cs-{release}.mdl")
    made = carried(cs, tmp_path / "hf", CS, LEFT[model])
    for name in ("q_encoder", "ctx_encoder"):
        with np.load(golden / name / "flat.npz") as arrays, open_checkpoint(made / name) as checkpoint:
            assert set(arrays.files) - checkpoint.leaves.keys() <= {
                key for key in arrays.files if key.endswith("embeddings.position_ids")
            }
            for key in checkpoint.leaves:
                assert checkpoint.read(key).tobytes() == arrays[key].tobytes(), key
        theirs, ours = (json.loads((at / name / "config.json").read_text()) for at in (golden, made))
        assert ours.items() <= theirs.items()
        assert theirs.keys() - ours.keys() <= {"_name_or_path", "tie_word_embeddings", "projection_dim"}


@pytest.mark.golden
def test_every_recorded_case_is_compared() -> None:
    named = {(model, case) for model, case, _ in (*CASES, *CONFIGS)} | {("dpr", "projection_dim_eq")}
    refused = {("dragon", case) for case in ("cli_name_refused", "masked_lm_keys", "masked_lm_keys_drop")}
    assert {
        (path.parent.name, path.name) for model in LEFT for path in recorded(model, "").iterdir()
    } == named | refused


@pytest.mark.golden
@pytest.mark.parametrize(("case", "pooled"), [("projection_dim_0", False), ("projection_dim_eq", True)])
def test_a_field_that_a_bert_has_not_is_listed(case: str, pooled: bool, tmp_path: Path) -> None:
    """The original takes it for a DPR's, and claims a pooler."""
    source = tmp_path / "dragon"
    shutil.copytree(recorded("dragon", "base", "hf"), source)
    shutil.copytree(recorded("dragon", case, "hf"), source, dirs_exist_ok=True)
    made = there(source, tmp_path / "m.mdl", "dragon", "2.9")
    same_tensors(made, recorded("dragon", "base", "hf-cs-2.9", "flat.npz"))
    theirs = yaml.safe_load(recorded("dragon", case, "hf-cs-2.9", "config_to_cs-2.9.yaml").read_text())["model"]
    ours = yaml.safe_load((tmp_path / "m.yaml").read_text())["model"]
    for name in ("q_encoder", "ctx_encoder"):
        expected = {key: value for key, value in theirs[name].items() if key not in UNUSED | {"name"}}
        assert expected.pop("add_pooling_layer") is pooled
        assert {key: ours[name].get(key) for key in expected} == expected
    with open_source(source) as opened:
        plan = make_plan(opened, find_mapping(LEFT["dragon"], CS))
        assert {"q_encoder.projection_dim", "ctx_encoder.projection_dim"} <= {*plan.unknown}
    carried(made, tmp_path / "back", CS, LEFT["dragon"])
    assert config_of(tmp_path / "back") == config_of(source)


@pytest.mark.golden
@pytest.mark.parametrize("words", [(), ("--drop-unmatched-keys",)], ids=["", "drop"])
def test_a_dragon_by_its_name_with_the_keys_of_its_class(words: tuple[str, ...], tmp_path: Path) -> None:
    """The original doesn't know the name, and refuses such keys, or writes an empty model."""
    source, whole = recorded("dragon", "masked_lm_keys", "hf"), recorded("dragon", "base", "hf-cs-2.9", "flat.npz")
    command = ["cerebras", "convert", str(source), "--model", "dragon", "--src-fmt", "hf", "--tgt-fmt", "cs-2.9"]
    assert main([*command, "--config", str(source), "--output-dir", str(tmp_path), *words]) == 0
    made = tmp_path / "pytorch_model_to_cs-2.9.mdl"
    with open_checkpoint(made) as ours, np.load(whole) as theirs:
        assert {key for key, leaf in ours.leaves.items() if leaf.spec} == set(theirs.files)
    assert main(["roundtrip", str(source), str(made)]) == 0
    with open_source(source) as opened:
        fates = make_plan(opened, find_mapping(LEFT["dragon"], CS)).fates()
    heads = {key: fate for key, fate in fates.items() if ".cls." in key}
    assert heads and {fate["fate"] for fate in heads.values()} == {"left behind"}
    carried(made, tmp_path / "back", CS, LEFT["dragon"])  # with the heads
    assert main(["diff", str(source), str(tmp_path / "back")]) == 0


@pytest.mark.golden
def test_a_projection_is_a_pooler(tmp_path: Path) -> None:
    """The original doesn't know the projection's keys. ModelZoo's model has one if ``pooler_type`` says so."""
    source = recorded("dpr", "projection_dim_eq", "hf")
    made = there(source, tmp_path / "m.mdl", "dpr", "2.9")
    assert yaml.safe_load((tmp_path / "m.yaml").read_text())["model"]["pooler_type"] == "ffn_pooler"
    carried(made, tmp_path / "back", CS, LEFT["dpr"])
    assert main(["diff", str(source), str(tmp_path / "back")]) == 0


@pytest.mark.golden
@pytest.mark.parametrize(
    ("field", "value", "why"),
    [("pooler_type", "mean", "is 'mean'"), ("use_biencoder", False, "is False"), ("encoder", {"a": 1}, "encoder")],
)
def test_what_transformers_cannot_say_is_refused(field: str, value: Any, why: str) -> None:
    with open_source(recorded("dpr", "base", "hf-cs-2.9", "pytorch_model_to_cs-2.9.mdl")) as source:
        assert source.config
        plant(source.config, f"model.{field}", value)
        with pytest.raises(ConvkitError, match=why):
            make_plan(source, find_mapping(CS, LEFT["dpr"]))


@pytest.mark.golden
@pytest.mark.parametrize("model", LEFT)
def test_through_the_command(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = recorded(model, "base", "hf"), tmp_path / "out"
    words = ["--model", model, "--src-fmt", "hf", "--tgt-fmt", "cs-2.9", "--config", str(source)]
    assert main(["cerebras", "convert", str(source), *words, "--output-dir", str(out)]) == 0
    made, config = out / "pytorch_model_to_cs-2.9.mdl", out / "config_to_cs-2.9.yaml"
    same_tensors(made, recorded(model, "base", "hf-cs-2.9", "flat.npz"))
    words = ["--model", model, "--src-fmt", "cs-2.9", "--tgt-fmt", "hf", "--config", str(config)]
    assert main(["cerebras", "convert", str(made), *words, "--output-dir", str(tmp_path / "back")]) == 0
    configs = [tmp_path / "back" / name / "config.json" for name in ("q_encoder", "ctx_encoder")]
    assert capsys.readouterr().out.splitlines()[-1] == f"Config saved to {configs[0]} and {configs[1]}"
    assert (tmp_path / "back" / "ctx_encoder" / "pytorch_model.bin.index.json").is_file()
    assert main(["diff", str(source), str(tmp_path / "back")]) == 0


@pytest.mark.golden
@pytest.mark.parametrize("model", LEFT)
def test_it_is_described(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(recorded(model, "base", "hf"))]) == 0
    assert LEFT[model] in capsys.readouterr().out
    assert main(["inspect", str(recorded(model, "base", "hf-cs-2.9", "pytorch_model_to_cs-2.9.mdl"))]) == 0
    assert CS in capsys.readouterr().out
