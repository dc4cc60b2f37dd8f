"""hf/gpt_bigcode <-> cerebras/starcoder: what is particular about it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from convkit.errors import ConfigError
from convkit.execute import convert
from convkit.generate import generate
from convkit.mappings import find_mapping
from convkit.plan import Options, make_plan, open_source

CS = {"name": "starcoder", "hidden_size": 24, "num_heads": 4}
ONE = {"attention_module": "multiquery_attention", "extra_attention_params": {"num_kv_groups": 1}}
HEADS, HEAD = 6, 10


def back(**model: Any) -> dict[str, Any]:
    return find_mapping("cerebras/starcoder", "hf/gpt_bigcode").config.convert({"model": CS | model}).config


def _convert(source: Path, to: str, target: Path) -> dict[str, Any]:
    safetensors = pytest.importorskip("safetensors.torch")
    with open_source(source) as opened:
        plan = make_plan(opened, to, options=Options(format="safetensors", restore=False))
        convert(opened, plan, target, threads=1)
    return safetensors.load_file(target / "model.safetensors")


def test_bfloat16_with_keys_of_every_head_both_ways(tmp_path: Path) -> None:
    """Queries, key and value of one head after another; the original can't write them back."""
    torch, safetensors = pytest.importorskip("torch"), pytest.importorskip("safetensors.torch")
    pytest.importorskip("transformers")
    generate("generated://gpt_bigcode?layers=1&vocab=5&multi_query=false&dtype=bfloat16", tmp_path / "hf")
    held = safetensors.load_file(tmp_path / "hf" / "model.safetensors")
    there = _convert(tmp_path / "hf", "cerebras/starcoder", tmp_path / "cs")
    for end in ("weight", "bias"):
        fused = held[f"transformer.h.0.attn.c_attn.{end}"].unflatten(0, (HEADS, 3, HEAD))
        for index, name in enumerate("qkv"):
            ours = there[f"model.transformer_decoder.layers.0.self_attn.proj_{name}_dense_layer.{end}"]
            assert ours.dtype == torch.bfloat16
            assert torch.equal(ours, fused[:, index].flatten(0, 1))
    again = _convert(tmp_path / "cs", "hf/gpt_bigcode", tmp_path / "back")
    assert again.keys() - held.keys() == {"lm_head.weight"}  # tied
    assert all(torch.equal(held[key], again[key]) for key in held)


@pytest.mark.parametrize(
    ("model", "shared"),
    [
        (ONE, True),
        ({"attention_module": "multiquery_attention"}, True),
        ({}, False),
        ({"attention_module": "aiayn_attention"}, False),
        (ONE | {"extra_attention_params": {"num_kv_groups": 4}}, False),
        (ONE | {"num_heads": 1}, True),
    ],
    ids=str,
)
def test_keys_are_shared_by_all_heads_or_by_none(model: dict[str, Any], shared: bool) -> None:
    assert back(**model)["multi_query"] is shared


@pytest.mark.parametrize(
    "model",
    [
        ONE | {"extra_attention_params": {"num_kv_groups": 2}},
        ONE | {"extra_attention_params": {"num_kv_groups": 3}},
        {"extra_attention_params": {"num_kv_groups": 1}},
    ],
    ids=str,
)
def test_groups_of_heads_have_no_counterpart(model: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        back(**model)
    assert caught.value.key == "extra_attention_params"
