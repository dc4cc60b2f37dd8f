"""muP: what ModelZoo's model multiplies is multiplied in transformers' weights, and comes back bit by bit."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from goldens import golden_dir
from mappings.carried import carried, tensors_in
from recorded import BUFFERS, arrays, cerebras, family

from convkit.errors import ConfigError
from convkit.mappings import find_mapping
from convkit.oracles import get_oracle

#: the base size that the recorded yamls leave out, which the classes demand since 2.4
COMPLETED: dict[str, dict[str, int]] = {"bert": {"mup_base_filter_size": 24}, "mistral": {"mup_base_filter_size": 24}}
#: what the original leaves unscaled of a BERT: every table of its embeddings, and its heads
EMBEDDINGS = tuple(f"bert.embeddings.{name}_embeddings.weight" for name in ("word", "position", "token_type"))
HEADS = ("cls.predictions.decoder.weight", "cls.seq_relationship.weight", "cls.seq_relationship.bias",
         "cls.predictions.bias", "cls.predictions.decoder.bias")  # fmt: skip


def _apart(one: np.ndarray, other: np.ndarray) -> float:
    """The largest distance in units in the last place."""
    return float(np.max(np.abs(one.astype(np.float64) - other) / np.spacing(np.abs(other))))


@pytest.mark.golden
@pytest.mark.parametrize("model", ["gpt2", "llama_gqa", "mistral", "bert", "t5_gated"])
def test_recorded_there_and_back(model: str, tmp_path: Path) -> None:
    """Within a unit of what the original made, except where it forgets a factor."""
    root = golden_dir("cerebras.tar.gz") / model
    (recorded,) = (root / "hf-cs-2.9").glob("*.mdl")
    config = yaml.safe_load((root / "mup-cs-2.9-hf" / "cs_params_mup.yaml").read_text())
    config["model"] |= COMPLETED.get(model, {})
    source = tmp_path / "source.mdl"
    shutil.copyfile(recorded, source)
    source.with_suffix(".yaml").write_text(yaml.safe_dump(config))

    plan = carried(source, f"hf/{family(model)}", tmp_path / "hf")
    assert not plan.exact
    assert plan.target_config["tie_word_embeddings"] is False
    ours, theirs = tensors_in(tmp_path / "hf"), arrays(root / "mup-cs-2.9-hf" / "flat.npz")
    forgotten = dict.fromkeys(EMBEDDINGS, 10.0) | dict.fromkeys(HEADS, 1.25) if model == "bert" else {}
    assert sorted(ours) == sorted(key for key in theirs if not key.endswith(BUFFERS))
    for key, made in ours.items():
        assert _apart(made, theirs[key] * np.float32(forgotten.get(key, 1))) <= 1, key

    carried(tmp_path / "hf", cerebras(family(model)), tmp_path / "back.mdl")
    assert yaml.safe_load((tmp_path / "back.yaml").read_text()) == config
    had, back = tensors_in(source), tensors_in(tmp_path / "back.mdl")
    assert {key: one.tobytes() for key, one in back.items()} == {key: one.tobytes() for key, one in had.items()}


@pytest.mark.golden
@pytest.mark.parametrize("model", ["gpt2", "llama_gqa", "mistral", "bert", "t5_gated"])
def test_what_is_written_computes_what_modelzoo_did(model: str, tmp_path: Path) -> None:
    """Weights that show a wrong factor, and what the real ModelZoo's model computed with them."""
    folder = golden_dir("cerebras_forward.tar.gz") / model / "mupstrong"
    weights, recorded = ({key: torch.from_numpy(one) for key, one in arrays(folder / f"{name}.npz").items()}
                         for name in ("cs", "forward"))  # fmt: skip
    torch.save(weights, tmp_path / "source.pt")
    shutil.copyfile(folder / "params.yaml", tmp_path / "source.yaml")
    plan = carried(tmp_path / "source.pt", f"hf/{family(model)}", tmp_path / "hf")

    made = {key: torch.from_numpy(one) for key, one in tensors_in(tmp_path / "hf").items()}
    oracle = get_oracle(f"hf/{family(model)}")(plan.target_config, made)
    assert not oracle.problems
    outputs = oracle.run({name: recorded[name] for name in oracle.inputs if name in recorded}).outputs
    expected = recorded["cs_logits"]
    assert (outputs["mlm" if model == "bert" else "lm"] - expected).abs().max() <= 5e-6 * expected.abs().max()


# --- configs -----------------------------------------------------------------------------------------------

GPT2 = {"hidden_size": 24, "num_heads": 4, "num_hidden_layers": 2, "filter_size": 40, "vocab_size": 23, "name": "gpt2"}
BASES = {"mup_base_hidden_size": 6, "mup_base_filter_size": 10}
TRIO = {"output_logits_scale": 0.5, "embeddings_scale": 3.0, "scale_qk_dot_by_d": True}


def names(model: dict[str, Any], layout: str = "gpt2") -> dict[str, Any]:
    table = find_mapping(f"cerebras/{layout}", f"hf/{layout}").config
    found = table.convert({"model": GPT2 | {"name": layout} | model}, {"cs": "model.", "lm_head": True}, (2, 10))
    return found.names


@pytest.mark.parametrize(
    ("model", "head", "keys", "words"),
    [
        (BASES, 1 / 4, 6**-0.5, 1.0),
        (BASES | {"scale_output_logits_by_d": False, "output_logits_alpha": 3.0}, 3 / 2, 6**-0.5, 1.0),
        (BASES | {"scale_qk_dot_by_d": False, "attention_logits_alpha": 0.25}, 1 / 4, 0.25, 1.0),
        (BASES | {"attention_type": "dot_product", "embeddings_scale": 5.0}, 1 / 4, 1.0, 5.0),
        (TRIO, 0.5, 6**-0.5, 3.0),
        (TRIO | {"attention_logits_alpha": 2.0}, 0.5, 2 * 6**-0.5, 3.0),
    ],
)
def test_the_factors_are_those_of_the_class(model: dict[str, Any], head: float, keys: float, words: float) -> None:
    found = names(model)
    assert found["mup"] and not found["tied"]
    assert [found[f"mup_{name}"] for name in ("head", "key", "words", "norm")] == pytest.approx([head, keys, words, 1])


@pytest.mark.parametrize(
    ("model", "field"),
    [
        ({"mup_base_hidden_size": 6}, "mup_base_filter_size"),
        ({"mup_base_filter_size": 6}, "mup_base_hidden_size"),
        (BASES | {"mup_base_hidden_size": -6}, "mup_base_hidden_size"),
        (BASES | {"output_logits_scale": 0.5}, "output_logits_scale"),
        ({"scale_qk_dot_by_d": True, "output_logits_scale": 0.5}, "embeddings_scale"),
        ({"scale_qk_dot_by_d": True, "embeddings_scale": 3.0}, "scale_qk_dot_by_d"),
        ({"output_logits_scale": 0.5, "embeddings_scale": 3.0}, "output_logits_scale"),
        ({"embeddings_scale": 3.0}, "embeddings_scale"),
        ({"attention_logits_alpha": 3.0}, "attention_logits_alpha"),
    ],
)
def test_a_part_of_a_set_is_refused_by_name(model: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        names(model)
    assert caught.value.key == field


@pytest.mark.parametrize("named", [True, False])
def test_scores_are_divided_by_the_root_in_the_gpt_j_class_since_it_names_its_model(named: bool) -> None:
    """Its default is false since 2.4; before, the absent field meant true for muP."""
    table = find_mapping("cerebras/gptj", "hf/gptj").config
    model = {**GPT2, **BASES, "name": "gptj", "rotary_dim": 4, "use_projection_bias_in_attention": False,
             "use_ffn_bias_in_attention": False, "use_ffn_bias": True}  # fmt: skip
    model = model if named else {field: value for field, value in model.items() if field != "name"}
    found = table.convert({"model": model}, {"cs": "model.", "lm_head": True, "head_bias": True}, (2, 10)).names
    assert found["mup_key"] == pytest.approx(1.0 if named else 6**-0.5)
