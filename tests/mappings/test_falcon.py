"""hf/falcon <-> cerebras/falcon: what is particular about it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from convkit.errors import ConfigError
from convkit.execute import convert
from convkit.generate import generate
from convkit.mappings import find_mapping
from convkit.oracles.opening import open_model
from convkit.plan import Options, Plan, make_plan, open_source
from convkit.verify.equivalence.probe import make_probe

TABLE = find_mapping("hf/falcon", "cerebras/falcon").config
MODEL = {"model_type": "falcon", "hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 1, "vocab_size": 50}
REFINED = {"model_type": "RefinedWeb", "hidden_size": 32, "n_head": 4, "n_layer": 1, "parallel_attn": True}
NEW = MODEL | {"new_decoder_architecture": True, "num_kv_heads": 2}


def fields(config: dict[str, Any]) -> dict[str, Any]:
    """What the yaml says of norms and groups of heads."""
    model = TABLE.convert(config).config["model"]
    return {"norms": 1 + model["use_untied_layer_norm"], "groups": model["extra_attention_params"]["num_kv_groups"]}


@pytest.mark.parametrize(
    ("config", "norms", "groups"),
    [
        (MODEL, 1, 1),
        (MODEL | {"num_kv_heads": 2}, 1, 1),
        (MODEL | {"multi_query": False}, 1, 4),
        (MODEL | {"num_ln_in_parallel_attn": None, "alibi": None, "new_decoder_architecture": None}, 1, 1),
        (NEW, 2, 2),
        (NEW | {"num_ln_in_parallel_attn": None}, 2, 2),
        (NEW | {"num_ln_in_parallel_attn": 1}, 1, 2),
        (NEW | {"num_kv_heads": None}, 2, 4),
        (REFINED | {"n_head_kv": 2}, 2, 2),
        (REFINED | {"model_type": "RefinedWebModel", "multi_query": True}, 1, 1),
        (REFINED | {"model_type": "RefinedWebModel"}, 1, 4),
    ],
)
def test_norms_and_groups_of_every_kind_of_falcon(config: dict[str, Any], norms: int, groups: int) -> None:
    assert fields(config) == {"norms": norms, "groups": groups}
    back = TABLE.inverse().convert(TABLE.convert(config).config).config
    assert fields(back) == {"norms": norms, "groups": groups}


@pytest.mark.parametrize(
    ("config", "key"),
    [
        (MODEL | {"alibi": True}, "alibi"),
        (MODEL | {"parallel_attn": False}, "parallel_attn"),
        (NEW | {"parallel_attn": False}, "parallel_attn"),
        (MODEL | {"num_ln_in_parallel_attn": 2}, "num_ln_in_parallel_attn"),
        (NEW | {"num_ln_in_parallel_attn": 3}, "num_ln_in_parallel_attn"),
        (NEW | {"num_kv_heads": 3}, "num_kv_heads"),
        (MODEL | {"hidden_size": 36}, "num_attention_heads"),
        (MODEL | {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "rope_scaling"),
        (REFINED, "n_head_kv"),
        (REFINED | {"model_type": "RefinedWebModel", "n_head_kv": 2}, "n_head_kv"),
        (REFINED | {"n_head_kv": 2, "parallel_attn": False}, "parallel_attn"),
        (REFINED | {"n_head_kv": 2, "apply_residual_connection_post_layernorm": True},
         "apply_residual_connection_post_layernorm"),
    ],
)  # fmt: skip
def test_what_modelzoo_cannot_run_is_refused_by_name(config: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        TABLE.convert(config)
    assert caught.value.key == key


def test_a_yaml_that_leaves_its_biases_out_may_have_none() -> None:
    """ModelZoo's converter writes such ones for a RefinedWeb; their classes' default is True."""
    yaml = TABLE.convert(MODEL, {"qkv_bias": False, "o_bias": False, "mlp_bias": False}).config
    for flag in ("use_projection_bias_in_attention", "use_ffn_bias_in_attention", "use_ffn_bias"):
        del yaml["model"][flag]
    back = TABLE.inverse().convert(yaml)
    assert back.config["bias"] is False and not back.claims
    assert any("use_projection_bias_in_attention" in warning for warning in back.warnings)
    with_biases = {"qkv_bias": True, "o_bias": True, "mlp_bias": True}
    assert TABLE.inverse().convert(yaml, with_biases).config["bias"] is True


def test_a_refined_web_is_run_and_comes_back_with_its_receipt(tmp_path: Path) -> None:
    """The models' first form on the hub: transformers has no class of that name, and the same model."""
    source, target = tmp_path / "source", tmp_path / "target.mdl"
    generate("generated://falcon?kv_heads=3&norms=two&layers=1&rope_theta=10000", source)
    said = json.loads((source / "config.json").read_text())
    names = {"num_hidden_layers": "n_layer", "num_attention_heads": "n_head", "num_kv_heads": "n_head_kv"}
    kept = ("vocab_size", "hidden_size", "parallel_attn", "layer_norm_epsilon", "ffn_hidden_size", "torch_dtype")
    refined = {"model_type": "RefinedWeb", "max_position_embeddings": said["max_position_embeddings"]}
    refined |= {names.get(name, name): said[name] for name in (*names, *kept) if name in said}
    (source / "config.json").write_text(json.dumps(refined))
    _convert(source, "cerebras/falcon", target)
    with open_model(source) as one, open_model(target) as other:
        probe = make_probe(one.oracle.facts, other.oracle.facts, length=32)
        ours, theirs = (model.oracle.run(probe).outputs["lm"] for model in (one, other))
        assert one.layout == "hf/falcon"
        assert float((ours - theirs).abs().max() / ours.abs().max()) < 5e-6
    _convert(target, "hf/falcon", tmp_path / "back")
    back = json.loads((tmp_path / "back" / "config.json").read_text())
    assert back | refined == back and "num_hidden_layers" not in back
    _convert(target, "hf/falcon", tmp_path / "today", restore=False)
    today = json.loads((tmp_path / "today" / "config.json").read_text())
    assert today["model_type"] == "falcon" and today["num_ln_in_parallel_attn"] == 2


def _convert(source: Path, to: str, target: Path, **options: Any) -> Plan:
    with open_source(source) as opened:
        plan = make_plan(opened, to, options=Options(**options))
        convert(opened, plan, target, threads=1)
    return plan
