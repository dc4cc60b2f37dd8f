"""hf/gptj and hf/codegen <-> cerebras/gptj: what is particular about them."""

from __future__ import annotations

from typing import Any

import pytest
from keys_only import carried, plan, refused

from convkit.checkpoint import TensorSpec
from convkit.errors import ConfigError
from convkit.mappings import find_mapping

CONFIG: dict[str, Any] = {
    "model_type": "gptj",
    "n_embd": 32,
    "n_head": 4,
    "n_layer": 1,
    "n_positions": 16,
    "rotary_dim": 4,
    "vocab_size": 50,
}
LAYER = {
    "ln_1.weight": (32,),
    "ln_1.bias": (32,),
    "attn.out_proj.weight": (32, 32),
    "mlp.fc_in.weight": (128, 32),
    "mlp.fc_in.bias": (128,),
    "mlp.fc_out.weight": (32, 128),
    "mlp.fc_out.bias": (32,),
}
SHAPES = {
    "transformer.wte.weight": (50, 32),
    "transformer.ln_f.weight": (32,),
    "transformer.ln_f.bias": (32,),
    "lm_head.weight": (50, 32),
    "lm_head.bias": (50,),
} | {f"transformer.h.0.{key}": shape for key, shape in LAYER.items()}
LEAVES = {key: TensorSpec(shape, "float32") for key, shape in SHAPES.items()}
GPTJ = LEAVES | {f"transformer.h.0.attn.{n}_proj.weight": TensorSpec((32, 32), "float32") for n in "qkv"}
CODEGEN = LEAVES | {"transformer.h.0.attn.qkv_proj.weight": TensorSpec((96, 32), "float32")}
#: flags of ModelZoo's class whose defaults are another family's
STATED = {"use_ffn_bias": True, "use_projection_bias_in_attention": False, "use_ffn_bias_in_attention": False}


def test_the_bias_of_the_head() -> None:
    made = plan(GPTJ, CONFIG, "cerebras/gptj")
    assert made.target_config["model"]["use_bias_in_output"] is True
    assert ("lm_head.bias", "model.lm_head.bias") in carried(made)


def test_a_head_without_a_bias() -> None:
    without = {key: spec for key, spec in GPTJ.items() if key != "lm_head.bias"}
    assert "lm_head.bias: is missing" in refused(without, CONFIG, "cerebras/gptj")
    made = plan(without, CONFIG, "cerebras/gptj", allow_missing=("lm_head.bias",))
    assert made.target_config["model"]["use_bias_in_output"] is False
    assert any("use_bias_in_output" in warning for warning in made.warnings)
    assert "model.lm_head.bias" not in made.target_leaves


def test_a_base_model_has_no_head_whose_bias_could_be_missed() -> None:
    base = {key.removeprefix("transformer."): spec for key, spec in GPTJ.items() if not key.startswith("lm_head")}
    made = plan(base, CONFIG | {"architectures": ["GPTJModel"]}, "cerebras/gptj")
    assert made.target_config["model"]["use_bias_in_output"] is False
    assert not any("use_bias_in_output" in warning for warning in made.warnings)


@pytest.mark.parametrize("rotary_dim", [3, 10, 0, None])
def test_dimensions_that_a_head_has_not(rotary_dim: int | None) -> None:
    with pytest.raises(ConfigError) as refused:
        plan(GPTJ, CONFIG | {"rotary_dim": rotary_dim}, "cerebras/gptj")
    assert refused.value.key == "rotary_dim"


def test_modelzoo_rotates_a_quarter_of_a_head_by_default() -> None:
    table = find_mapping("cerebras/gptj", "hf/gptj").config
    model = STATED | {"hidden_size": 32, "num_heads": 4}
    assert table.convert({"model": model}).config["rotary_dim"] == 2
    with pytest.raises(ConfigError, match="by default"):
        table.convert({"model": model | {"num_heads": 16}})


@pytest.mark.parametrize(
    ("config", "source", "target", "taken"),
    [
        ({"n_embd": 256, "n_head": 2}, "hf/gptj", "cerebras/gptj", 64),
        ({"n_embd": 256, "n_head": 4}, "hf/codegen", "cerebras/gptj", 64),
        ({"model": STATED | {"hidden_size": 256, "num_heads": 8}}, "cerebras/gptj", "hf/codegen", 8),
    ],
)
def test_a_default_of_the_rotated_dimensions_is_told(
    config: dict[str, Any], source: str, target: str, taken: int
) -> None:
    found = find_mapping(source, target).config.convert(config)
    (told,) = [warning for warning in found.warnings if warning.startswith("rotary_dim")]
    assert told.endswith(f"its default is taken, {taken}")


def test_codegen_keeps_queries_values_and_keys_in_four_parts() -> None:
    made = plan(CODEGEN, CONFIG | {"model_type": "codegen"}, "cerebras/gptj")
    (step,) = [step for step in made.bound.steps if step.sources[0].key.endswith("qkv_proj.weight")]
    assert [side.key.rpartition("proj_")[2][0] for side in step.targets] == ["q", "v", "k"]
    with pytest.raises(ConfigError) as refused:
        plan(CODEGEN, CONFIG | {"model_type": "codegen", "n_head": 2}, "cerebras/gptj")
    assert refused.value.key == "n_head"


def test_codegen_names_the_heads_as_the_source_does() -> None:
    model = STATED | {"hidden_size": 36, "num_heads": 6, "rotary_dim": 2}
    with pytest.raises(ConfigError, match="4 equal parts") as refused:
        find_mapping("cerebras/gptj", "hf/codegen").config.convert({"model": model})
    assert refused.value.key == "num_heads"


@pytest.mark.parametrize("field", ["norm_first", "use_position_embedding"])
def test_null_is_refused_in_fields_that_no_row_reads(field: str) -> None:
    model = STATED | {"hidden_size": 32, "num_heads": 4, "rotary_dim": 4, field: None}
    with pytest.raises(ConfigError, match="null") as refused:
        find_mapping("cerebras/gptj", "hf/gptj").config.convert({"model": model})
    assert refused.value.key == field


@pytest.mark.parametrize("family", ["gpt_neox", "falcon"])
def test_the_class_has_no_llama3_scaling(family: str) -> None:
    table = find_mapping(f"hf/{family}", f"cerebras/{family.replace('_', '-')}").config
    heads = {"hidden_size": 32, "num_attention_heads": 4}
    yarn, llama3 = {"rope_type": "yarn", "factor": 4.0}, {"rope_type": "llama3", "factor": 8.0}
    said = table.convert({"model_type": family, **heads, "rope_scaling": yarn}).config["model"]
    assert said["pos_scaling_type"] == "yarn"
    with pytest.raises(ConfigError, match="has no counterpart"):
        table.convert({"model_type": family, **heads, "rope_scaling": llama3})
    with pytest.raises(ConfigError, match="has no counterpart"):
        table.inverse().convert({"model": said | {"pos_scaling_type": "llama3"}})
