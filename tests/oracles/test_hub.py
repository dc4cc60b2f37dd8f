"""Models whose code lies on the hub: what we run for them.

No logits of the hub's own code are recorded: those here come from another restatement of the published model. Without
its own options the model is GPT-2, which transformers itself runs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from goldens import golden_dir
from torch import Tensor

from convkit.errors import ConvkitError
from convkit.generate.weights import fill
from convkit.oracles import get_oracle
from convkit.oracles.opening import detect_layout
from convkit.oracles.oracle import Oracle
from convkit.testing.stages import (
    check_that_a_fault_shows_in_its_stage,
    check_that_roles_are_read_where_said,
    check_that_stages_are_the_run,
)

torch.set_num_threads(1)
#: agreeing float32 runs differ by less than 1e-6
BOUND = 5e-6

SIZES = {"vocab_size": 23, "n_embd": 24, "n_layer": 2, "n_head": 3, "n_positions": 40, "n_inner": 30}


def recorded(family: str = "btlm", **changes: Any) -> tuple[Oracle, dict[str, Tensor]]:
    """The recorded model with a changed config, and its input and logits."""
    folder = golden_dir("cerebras_forward.tar.gz") / family / "strong"
    config = json.loads((golden_dir("cerebras.tar.gz") / family / "hf" / "config.json").read_text())
    weights, seen = (
        {name: torch.from_numpy(array) for name, array in np.load(folder / name).items()}
        for name in ("hf.npz", "forward.npz")
    )
    return get_oracle(f"hf/{family}")(config | changes, weights), seen


def error(oracle: Oracle, seen: dict[str, Tensor]) -> float:
    found, logits = oracle.run({"input_ids": seen["input_ids"]}).outputs["lm"], seen["hf_logits"]
    return ((found - logits).abs().max() / logits.abs().max()).item()


@pytest.mark.golden
@pytest.mark.parametrize("family", ["btlm", "santacoder"])
def test_it_computes_what_a_restatement_computed(family: str) -> None:
    oracle, seen = recorded(family)
    assert not oracle.problems
    assert error(oracle, seen) <= BOUND


@pytest.mark.golden
@pytest.mark.parametrize(
    "change",
    [
        {"mup_embeddings_scale": 1.0},
        {"mup_output_alpha": 2.0},
        {"mup_width_scale": 0.25},
        {"mup_scale_qk_dot_by_d": False},
        {"scale_attn_weights": False},
        {"activation_function": "geglu"},
        {"alibi_scaling": {"type": "linear", "factor": 2.0}},
    ],
    ids=str,
)
def test_no_field_can_be_wrong_unseen(change: dict[str, Any]) -> None:
    assert error(*recorded(**change)) > 4 * BOUND


@pytest.mark.golden
def test_the_first_jais_has_other_names_of_fields() -> None:
    oracle, seen = recorded(embeddings_scale=14.6, scale_qk_dot_by_d=True, width_scale=0.275, mup_output_alpha=9.0)
    assert error(oracle, seen) <= BOUND


@pytest.mark.golden
@pytest.mark.parametrize("change", [{"scale_attn_weights": False}, {"activation_function": "gelu"}], ids=str)
def test_no_field_of_santacoder_can_be_wrong_unseen(change: dict[str, Any]) -> None:
    assert error(*recorded("santacoder", **change)) > 4 * BOUND


@pytest.mark.golden
@pytest.mark.parametrize(
    ("family", "roles"),
    [("btlm", ("layers.1.gate.weight", "layers.0.q.bias")), ("santacoder", ("layers.1.k.weight", "layers.0.v.bias"))],
)
def test_its_stages(family: str, roles: tuple[str, ...]) -> None:
    oracle, seen = recorded(family)
    inputs = {"input_ids": seen["input_ids"]}
    check_that_stages_are_the_run(oracle, inputs)
    check_that_roles_are_read_where_said(oracle, inputs)
    for role in roles:
        check_that_a_fault_shows_in_its_stage(oracle, inputs, role)


def gpt2(**config: Any) -> tuple[Any, dict[str, Tensor]]:
    transformers = pytest.importorskip("transformers")
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**SIZES, **config)).eval()
    fill(model, seed=3)
    return model, {name: tensor.detach() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize(
    "config",
    [{}, {"tie_word_embeddings": False, "activation_function": "relu"}, {"scale_attn_weights": False}],
    ids=str,
)
def test_without_its_options_it_is_gpt2(config: dict[str, Any]) -> None:
    model, tensors = gpt2(**config)
    ids = torch.arange(60).reshape(2, 30) % 23
    found = get_oracle("hf/jais")(SIZES | config, tensors).run({"input_ids": ids}).outputs["lm"]
    with torch.no_grad():
        expected = model(input_ids=ids).logits
    assert ((found - expected).abs().max() / expected.abs().max()).item() < 2e-6


def test_santacoder_is_gpt_bigcode_with_a_module_for_the_key_and_the_value() -> None:
    """transformers took it in as such: queries, key and value in one module, matrices the other way round."""
    transformers = pytest.importorskip("transformers")
    sizes = SIZES | {"activation_function": "gelu_fast", "attention_head_type": "multiquery"}
    model = transformers.GPTBigCodeForCausalLM(transformers.GPTBigCodeConfig(**sizes)).eval()
    fill(model, seed=3)
    tensors: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        turned = tensor.detach().T if tensor.ndim == 2 and ".h." in name else tensor.detach()
        if ".c_attn." in name:
            tensors[name.replace("c_attn", "q_attn")] = turned[..., :24].contiguous()
            tensors[name.replace("c_attn", "kv_attn")] = turned[..., 24:].contiguous()
        else:
            tensors[name] = turned.contiguous()
    ids = torch.arange(60).reshape(2, 30) % 23
    oracle = get_oracle("hf/santacoder")(sizes, tensors)
    found = oracle.run({"input_ids": ids}).outputs["lm"]
    with torch.no_grad():
        expected = model(input_ids=ids).logits
    assert oracle.facts.kv_heads == 1
    assert ((found - expected).abs().max() / expected.abs().max()).item() < 2e-6


def test_a_base_model_has_no_logits() -> None:
    _, tensors = gpt2()
    base = {name.removeprefix("transformer."): one for name, one in tensors.items() if name.startswith("transformer.")}
    oracle = get_oracle("hf/btlm")(SIZES, base)
    assert not oracle.problems
    assert not oracle.run({"input_ids": torch.arange(9)[None]}).outputs


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"n_layer": 3}, "transformer.h.2.ln_1.weight: missing key"),
        ({"n_inner": 31}, "transformer.h.0.mlp.c_fc.weight: shape"),
        ({"position_embedding_type": "alibi"}, "relative_pe.slopes: missing key"),
        ({"alibi_scaling": {"type": "linear", "train_seq_len": 20}}, "alibi_scaling: .*doesn't cover"),
        ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx: .*doesn't cover"),
        ({"activation_function": "bogus"}, "no activation is called 'bogus'"),
    ],
    ids=str,
)
def test_what_cannot_be_run_is_refused_by_name(config: dict[str, Any], said: str) -> None:
    _, tensors = gpt2()
    with pytest.raises(ConvkitError, match=said):
        get_oracle("hf/btlm")(SIZES | config, tensors)


def test_keys_of_another_model_are_problems() -> None:
    _, tensors = gpt2()
    assert not get_oracle("hf/btlm")(SIZES, tensors | {"transformer.h.0.attn.bias": torch.ones(1)}).problems
    assert get_oracle("hf/btlm")(SIZES, tensors | {"transformer.h.0.attn.gain": torch.ones(1)}).problems
    assert get_oracle("hf/btlm")(SIZES, tensors | {"lm_head.weight": torch.ones(23, 24)}).problems


def test_a_yaml_named_by_the_whole_config_of_jais() -> None:
    """ModelZoo's converter writes such ones."""
    config = {"name": {"model_type": "jais"}, "position_embedding_type": "alibi"}
    keys = ["model.embedding_layer.word_embeddings.weight"]
    assert detect_layout(keys, config, Path("params.yaml")) == "cerebras/jais"


def test_another_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConvkitError, match=r"wte\.weight"):
        get_oracle("hf/btlm")(SIZES, {"model.embed_tokens.weight": torch.ones(23, 24)}, tmp_path)
