"""A config that contradicts the tensors: the error names its file, the field, both numbers and the remedy."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest
from keys_only import plan, specs
from recorded import HERE

from convkit.checkpoint import TensorSpec
from convkit.errors import ConfigError, ContradictionError, PlanError

Leaves = Mapping[str, TensorSpec]

#: layout, field, the value that it gets, what the tensors have
CASES = [
    ("hf/llama", "num_hidden_layers", 3, "the checkpoint has 2"),
    ("hf/llama", "num_hidden_layers", 1, "the checkpoint has 2"),
    ("hf/llama", "num_hidden_layers", 10**6, "the checkpoint has 2"),
    ("hf/llama", "vocab_size", 97, r"embed_tokens.weight of shape \[96, 32\] has 96"),
    ("hf/llama", "hidden_size", 64, r"embed_tokens.weight of shape \[96, 32\] has 32"),
    ("hf/llama", "intermediate_size", 96, r"up_proj.weight of shape \[48, 32\] has 48"),
    ("hf/llama", "num_key_value_heads", 4, r"head_dim is 8, but .* has 16 where that makes 32"),
    ("cerebras/llama", "num_hidden_layers", 1, "the checkpoint has 2"),
    ("cerebras/llama", "filter_size", 49, "has 48"),
    ("hf/gpt2", "n_layer", 3, "the checkpoint has 2"),
    ("hf/gpt2", "n_layer", 1, "the checkpoint has 2"),
    ("hf/gpt2", "n_positions", 41, r"wpe.weight of shape \[40, 32\] has 40"),
    ("hf/gpt2", "n_embd", 64, r"wte.weight of shape \[96, 32\] has 32"),
    ("cerebras/gpt2", "num_hidden_layers", 3, "the checkpoint has 2"),
    ("cerebras/gpt2", "max_position_embeddings", 80, "has 40"),
    ("hf/bert", "num_hidden_layers", 3, "the checkpoint has 2"),
    ("hf/bert", "intermediate_size", 24, "has 48"),
    ("cerebras/bert", "vocab_size", 97, "has 96"),
    ("cerebras/bert", "num_hidden_layers", 1, "the checkpoint has 2"),
]


def checkpoint(layout: str) -> tuple[Leaves, dict[str, Any]]:
    """The leaves and the config of a recorded model of this layout, or of what it becomes."""
    framework, _, family = layout.partition("/")
    folder = HERE / {"llama": "llama_gqa"}.get(family, family) / "hf"
    leaves, config = specs(folder / "model.safetensors"), json.loads((folder / "config.json").read_text())
    if framework == "hf":
        return leaves, config
    made = plan(leaves, config, layout)
    return {key: leaf.spec for key, leaf in made.target_leaves.items() if leaf.spec}, made.target_config


def refusal(layout: str, changes: Mapping[str, Any], without: tuple[str, ...] = ()) -> Any:
    """The error with which the model is refused after changes of its config."""
    leaves, config = checkpoint(layout)
    framework, _, family = layout.partition("/")
    section = config if framework == "hf" else config["model"]
    section |= changes
    for name in without:
        del section[name]
    with pytest.raises((ContradictionError, ConfigError)) as refused:
        plan(leaves, config, f"{'cerebras' if framework == 'hf' else 'hf'}/{family}")
    assert refused.value.path == "config"
    assert refused.value.remedy
    return refused.value


@pytest.mark.parametrize(("layout", "field", "value", "found"), CASES)
def test_the_field_is_named_with_both_numbers(layout: str, field: str, value: int, found: str) -> None:
    error = refusal(layout, {field: value})
    assert error.key == field
    assert re.search(f"is {value} .*{found}|is {value}, .*{found}", error.problem), error.problem


def test_a_size_by_default_is_called_that() -> None:
    error = refusal("hf/llama", {}, without=("num_hidden_layers",))
    assert (error.key, error.problem[:40]) == ("num_hidden_layers", "is 32 by default, but the checkpoint has")
    error = refusal("hf/gpt2", {"n_embd": 100}, without=("n_head",))
    assert error.key == "n_head"
    assert "the config leaves it out, and 12 is its default" in error.problem


def test_a_field_is_named_as_the_config_spells_it() -> None:
    assert refusal("hf/gpt2", {"num_hidden_layers": 3}, without=("n_layer",)).key == "num_hidden_layers"


def test_heads_of_a_wrong_size_are_named_too() -> None:
    error = refusal("hf/llama", {"head_dim": 16})
    assert "head_dim is 16, but model.layers.0.self_attn.q_proj.weight" in error.problem


def test_groups_that_do_not_divide_the_heads_are_refused_by_name() -> None:
    error = refusal("hf/llama", {"num_key_value_heads": 3})
    assert (error.key, error.problem) == ("num_key_value_heads", "3 groups don't divide 4 heads")


def test_one_missing_tensor_is_named_itself() -> None:
    leaves, config = checkpoint("hf/llama")
    gone = "model.layers.1.mlp.up_proj.weight"
    with pytest.raises(PlanError, match="is missing") as refused:
        plan({key: spec for key, spec in leaves.items() if key != gone}, config, "cerebras/llama")
    assert refused.value.key == gone
