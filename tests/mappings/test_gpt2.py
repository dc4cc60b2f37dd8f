"""hf/gpt2 <-> cerebras/gpt2, at the level of rules."""

from __future__ import annotations

import json
from typing import Any

import pytest
from keys_only import carried, plan, refused, specs
from mappings.recorded_keys import check_inverse, check_keys, check_pairs
from recorded import HERE, MODELS, Recorded

from convkit.checkpoint import TensorSpec
from convkit.errors import ConfigError

GOLDENS = [Recorded("gpt2", release, here=False) for release in MODELS["gpt2"]]
HF = HERE / "gpt2" / "hf"
CONFIG: dict[str, Any] = json.loads((HF / "config.json").read_text())
LEAVES = specs(HF / "model.safetensors")
BARE = {key.removeprefix("transformer."): spec for key, spec in LEAVES.items()}


def test_inverse() -> None:
    check_inverse("gpt2")


@pytest.mark.parametrize(
    "case",
    [*(pytest.param(case, marks=pytest.mark.golden) for case in GOLDENS), Recorded("gpt2", "2.9", True)],
    ids=str,
)
def test_every_recorded_key_has_one_rule(case: Recorded) -> None:
    check_keys(case)


@pytest.mark.golden
@pytest.mark.parametrize("case", GOLDENS, ids=str)
def test_keys_go_where_the_original_sends_them(case: Recorded) -> None:
    check_pairs(case)


def test_queries_keys_and_values_come_apart() -> None:
    made = plan(LEAVES, CONFIG, "cerebras/gpt2")
    for part in ("weight", "bias"):
        source = f"transformer.h.1.attn.c_attn.{part}"
        targets = [target for key, target in sorted(carried(made)) if key == source]
        assert targets == [f"model.transformer_decoder.layers.1.self_attn.proj_{p}_dense_layer.{part}" for p in "kqv"]


def test_the_published_model() -> None:
    """Without prefix and head, but with buffers: it is a language model all the same."""
    n = CONFIG["n_positions"]
    buffers = {f"h.{i}.attn.bias": TensorSpec((1, 1, n, n), "float32") for i in range(2)}
    made = plan(BARE | buffers, CONFIG, "cerebras/gpt2")
    assert made.variant["hf"] == ""
    assert not made.names["headless"]
    assert "model.lm_head.weight" in made.target_leaves
    assert {leaf.key for leaf in made.bound.derived} == set(buffers)


def test_base_model() -> None:
    made = plan(BARE, CONFIG | {"architectures": ["GPT2Model"]}, "cerebras/gpt2")
    assert made.names["headless"]
    assert "model.lm_head.weight" in made.target_leaves
    untied = plan(BARE, CONFIG | {"tie_word_embeddings": False}, "cerebras/gpt2", headless=True)
    assert "model.lm_head.weight" not in untied.target_leaves


@pytest.mark.parametrize("field", ["scale_attn_by_inverse_layer_idx", "reorder_and_upcast_attn"])
def test_other_attention_is_refused(field: str) -> None:
    with pytest.raises(ConfigError, match=f"{field}: is True"):
        plan(LEAVES, CONFIG | {field: True}, "cerebras/gpt2")


def test_a_square_kernel_is_pointed_out() -> None:
    """Its shape can't show whether it is transposed."""
    made = plan(LEAVES, CONFIG, "cerebras/gpt2")
    assert "transformer.h.0.attn.c_proj.weight" in made.square()
    assert "transformer.h.0.mlp.c_proj.weight" not in made.square()


def test_a_head_of_another_shape_is_refused() -> None:
    wrong = LEAVES | {"transformer.h.0.attn.c_attn.weight": TensorSpec((32, 64), "float32")}
    assert "c_attn.weight" in refused(wrong, CONFIG, "cerebras/gpt2")


@pytest.mark.parametrize("number", [5, 10**9])
def test_heads_that_do_not_share_the_hidden_size_out_are_refused(number: int) -> None:
    """No tensor could contradict them."""
    with pytest.raises(ConfigError, match=f"n_head: {number} heads don't divide the hidden size"):
        plan(LEAVES, CONFIG | {"n_head": number}, "cerebras/gpt2")
    there = plan(LEAVES, CONFIG, "cerebras/gpt2")
    yaml = {"model": there.target_config["model"] | {"num_heads": number}}
    with pytest.raises(ConfigError, match="num_heads: "):
        plan({key: leaf.spec for key, leaf in there.target_leaves.items()}, yaml, "hf/gpt2")
