"""Particular to BTLM and Jais: the scales of muP, of which one lies outside the model's section; names that differ."""

from __future__ import annotations

from typing import Any

import pytest

from convkit.config import ConfigError
from convkit.mappings import find_mapping

BTLM = {"model_type": "btlm", "n_embd": 24, "n_head": 4, "position_embedding_type": "alibi"}


def there(family: str = "btlm", **fields: Any) -> dict[str, Any]:
    table = find_mapping(f"hf/{family}", f"cerebras/{family}").config
    return table.convert(BTLM | {"model_type": family} | fields).config


def back(config: dict[str, Any], family: str = "btlm") -> dict[str, Any]:
    return find_mapping(f"cerebras/{family}", f"hf/{family}").config.convert(config).config


@pytest.mark.parametrize("width", [1.0, 0.125, 0.1, 0.0357, 1 / 3])
@pytest.mark.parametrize("alpha", [1.0, 2.2, 2.22, 0.3, 14.6])
def test_the_factor_of_the_logits_comes_back_as_two(alpha: float, width: float) -> None:
    config = there(mup_output_alpha=alpha, mup_width_scale=width)
    assert config["model"]["output_logits_scale"] == alpha * width
    assert config["optimizer"] == {"adjust_learning_rate": {"decoder_kernel": width}}
    found = back(config)
    assert (found["mup_output_alpha"], found["mup_width_scale"]) == (alpha, width)


def test_a_yaml_without_the_learning_rates_section() -> None:
    found = back({"model": {"name": "btlm", "output_logits_scale": 0.275}})
    assert (found["mup_output_alpha"], found["mup_width_scale"]) == (0.275, 1.0)


@pytest.mark.parametrize("kernel", [0, True, "many", None])
def test_what_is_no_width_is_refused_with_its_whole_path(kernel: Any) -> None:
    config = {"model": {"name": "btlm"}, "optimizer": {"adjust_learning_rate": {"decoder_kernel": kernel}}}
    with pytest.raises(ConfigError, match=r"optimizer\.adjust_learning_rate\.decoder_kernel"):
        back(config)


def test_distances_are_scaled_by_a_fixed_factor_or_not_at_all() -> None:
    config = there(alibi_scaling={"type": "linear", "factor": 4.0})
    assert config["model"]["pos_scaling_factor"] == 4.0
    assert back(config)["alibi_scaling"] == {"type": "linear", "factor": 4.0}
    assert back(there())["alibi_scaling"] is None
    for scaling in ({"type": "linear", "train_seq_len": 2048}, {"type": "dynamic", "factor": 2.0}, {"factor": 2.0}):
        with pytest.raises(ConfigError, match="alibi_scaling"):
            there(alibi_scaling=scaling)
    with pytest.raises(ConfigError, match="pos_scaling_factor"):
        back({"model": config["model"] | {"pos_scaling_factor": 0.5}})


def test_the_first_jais_spells_its_scales_otherwise() -> None:
    model = there("jais", embeddings_scale=14.6, width_scale=0.111, scale_qk_dot_by_d=True)["model"]
    found = {name: model[name] for name in ("embeddings_scale", "output_logits_scale", "scale_qk_dot_by_d")}
    assert found == {"embeddings_scale": 14.6, "output_logits_scale": 0.111, "scale_qk_dot_by_d": True}


def test_a_yaml_may_have_the_whole_config_as_its_name() -> None:
    model = there("jais")["model"]
    assert back({"model": model | {"name": BTLM | {"model_type": "jais"}}}, "jais") == back({"model": model}, "jais")
    with pytest.raises(ConfigError, match="name: is 'btlm'"):
        back({"model": model | {"name": BTLM}}, "jais")


def test_the_code_on_the_hub_is_named() -> None:
    code = {family: back(there(family), family)["auto_map"]["AutoModelForCausalLM"] for family in ("btlm", "jais")}
    assert code["btlm"] == "cerebras/btlm-3b-8k-base--modeling_btlm.BTLMLMHeadModel"
    assert code["jais"] == "inceptionai/jais-30b-v3--modeling_jais.JAISLMHeadModel"
