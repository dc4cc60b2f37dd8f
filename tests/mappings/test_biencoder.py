"""DPR and DRAGON: two encoders in folders, against what ModelZoo's converter recorded."""

from __future__ import annotations

import json
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
def test_a_dragon_with_the_keys_of_its_class(tmp_path: Path) -> None:
    """The original refuses them, or writes an empty model."""
    made = there(recorded("dragon", "masked_lm_keys", "hf"), tmp_path / "m.mdl", "dragon", "2.9")
    whole = recorded("dragon", "base", "hf-cs-2.9", "pytorch_model_to_cs-2.9.mdl")
    with open_checkpoint(made) as ours, open_checkpoint(whole) as theirs:
        names = [{key for key, leaf in one.leaves.items() if leaf.spec} for one in (ours, theirs)]
        assert names[0] == names[1]


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
def test_through_the_command(model: str, tmp_path: Path) -> None:
    source, out = recorded(model, "base", "hf"), tmp_path / "out"
    words = ["--model", model, "--src-fmt", "hf", "--tgt-fmt", "cs-2.9", "--config", str(source)]
    assert main(["cerebras", "convert", str(source), *words, "--output-dir", str(out)]) == 0
    made, config = out / "pytorch_model_to_cs-2.9.mdl", out / "config_to_cs-2.9.yaml"
    same_tensors(made, recorded(model, "base", "hf-cs-2.9", "flat.npz"))
    words = ["--model", model, "--src-fmt", "cs-2.9", "--tgt-fmt", "hf", "--config", str(config)]
    assert main(["cerebras", "convert", str(made), *words, "--output-dir", str(tmp_path / "back")]) == 0
    assert (tmp_path / "back" / "ctx_encoder" / "pytorch_model.bin.index.json").is_file()
    assert main(["diff", str(source), str(tmp_path / "back")]) == 0
