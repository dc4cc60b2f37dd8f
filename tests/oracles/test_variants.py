"""Spellings and leftovers in real checkpoints: the oracles read each as its framework does."""

from __future__ import annotations

import pytest
import torch
from paired_models import Pair, bert, gpt2, llama
from torch import Tensor

from convkit.errors import ConvkitError, UsageError
from convkit.oracles import get_oracle, layouts
from convkit.oracles.oracle import Oracle, Trace
from convkit.testing.stages import apart, edited
from convkit.verify.equivalence.probe import make_probe

torch.set_num_threads(1)


def agree(pair: Pair, family: str) -> tuple[Oracle, Trace]:
    """The source, and what it shows: the target shows the same."""
    source, target = (
        get_oracle(f"hf/{family}")(pair.hf_config, pair.hf),
        get_oracle(f"cerebras/{family}")(pair.cs_config, pair.cs),
    )
    assert source.problems == target.problems == []
    probe = make_probe(source.facts, target.facts, length=64)
    reference = source.run(probe)
    assert apart(reference, target.run(probe)) < 2e-6
    return source, reference


def respelled(tensors: dict[str, Tensor], old: str, new: str) -> dict[str, Tensor]:
    return {key.replace(old, new): value for key, value in tensors.items()}


def test_norms_called_gamma_and_beta() -> None:
    pair = bert()
    sound = set(get_oracle("hf/bert")(pair.hf_config, pair.hf).roles)
    pair.hf = respelled(respelled(pair.hf, "LayerNorm.weight", "LayerNorm.gamma"), "LayerNorm.bias", "LayerNorm.beta")
    assert set(agree(pair, "bert")[0].roles) == sound


def test_the_hubs_gpt2_has_a_head_but_no_prefix() -> None:
    pair = gpt2()
    pair.hf = {key.removeprefix("transformer."): value for key, value in pair.hf.items()}
    pair.hf |= {f"h.{i}.attn.bias": torch.ones(1, 1, 300, 300) for i in range(3)}
    assert "lm" in agree(pair, "gpt2")[1].outputs


def test_both_names_of_a_tied_tensor() -> None:
    pair = bert()
    pair.hf["cls.predictions.decoder.weight"] = pair.hf["bert.embeddings.word_embeddings.weight"].clone()
    pair.hf["cls.predictions.decoder.bias"] = pair.hf["cls.predictions.bias"].clone()
    assert set(agree(pair, "bert")[0].twins) == {"cls.predictions.decoder.weight", "cls.predictions.decoder.bias"}


@pytest.mark.parametrize("head", ["token", "mlm", "qa"])
def test_a_leftover_pooler(head: str) -> None:
    pair = bert(head)
    pair.hf |= {"bert.pooler.dense.weight": torch.ones(24, 24), "bert.pooler.dense.bias": torch.ones(24)}
    assert "pooled" not in agree(pair, "bert")[1].states


def test_a_tokens_classifier_is_known_by_its_name() -> None:
    pair = bert("token")
    pair.cs_config["name"] = "bert/token_classifier"
    pooler = "model.bert.pooler.pooler.ffn.0.linear_layer"
    pair.cs |= {f"{pooler}.weight": torch.ones(24, 24), f"{pooler}.bias": torch.ones(24)}
    assert agree(pair, "bert")[1].outputs["classifier"].shape == (2, 64, 5)


def test_the_trainer_wraps_the_model_once_more() -> None:
    pair = llama()
    pair.cs = {f"model.{key}": value for key, value in pair.cs.items()} | {"optimizer.state.0": torch.ones(1)}
    agree(pair, "llama")


def test_positions_before_release_2_1() -> None:
    pair = gpt2()
    pair.cs = respelled(pair.cs, "position_embeddings.embed.weight", "position_embeddings.weight")
    agree(pair, "gpt2")


@pytest.mark.parametrize(
    "name", ["relu", "gelu", "gelu_new", "silu", "gelu_fast", "quick_gelu", "tanh", "linear", "mish"]
)
def test_activations(name: str) -> None:
    pair = gpt2(act=name)
    agree(pair, "gpt2")


def test_a_copy_may_be_missing_but_is_noted() -> None:
    pair = llama(tied=True)
    del pair.cs["model.lm_head.weight"], pair.cs["model.ln_f.weight"]
    agree(pair, "llama")
    assert len(get_oracle("cerebras/llama")(pair.cs_config, pair.cs).notes) == 2


def test_an_edit_reaches_every_name_and_leaves_the_original_alone() -> None:
    pair = llama(tied=True)
    oracle = get_oracle("cerebras/llama")(pair.cs_config, pair.cs)
    before = oracle.part("embedding.weight").clone()
    tensors = edited(oracle, {"embedding.weight": before + 1})
    assert torch.equal(tensors["model.lm_head.weight"], before + 1)
    assert torch.equal(oracle.part("embedding.weight"), before)


def test_parts_of_a_fused_tensor_are_edited_apart() -> None:
    pair = gpt2()
    oracle = get_oracle("hf/gpt2")(pair.hf_config, pair.hf)
    role = "layers.1.k.weight"
    tensors = edited(oracle, {role: oracle.part(role) * 0})
    changed = tensors["transformer.h.1.attn.c_attn.weight"] != pair.hf["transformer.h.1.attn.c_attn.weight"]
    assert changed[:, 24:48].all() and not changed[:, :24].any() and not changed[:, 48:].any()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("position_embedding_type", "relative"),
        ("norm_type", "group"),
        ("nonlinearity", "softplus"),
        ("pos_scaling_type", "ntk"),
        ("moe", {"num_experts": 4}),
        ("attention_chunk_size", 16),
        ("output_logits_alpha", 2.5),
        ("embedding_layer_norm", True),
    ],
)
def test_what_is_not_covered_is_refused_by_name(field: str, value: object) -> None:
    pair = llama()
    with pytest.raises(ConvkitError) as refused:
        agree(Pair(pair.hf_config, pair.hf, pair.cs_config | {field: value}, pair.cs), "llama")
    assert str(value) in str(refused.value)


def test_numbers_that_yaml_reads_as_text() -> None:
    pair = llama()
    pair.cs_config |= {"layer_norm_epsilon": str(pair.cs_config["layer_norm_epsilon"]), "num_heads": "6"}
    agree(pair, "llama")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("hidden_size", "wide"),
        ("num_heads", -1),
        ("num_heads", 2.5),
        ("layer_norm_epsilon", [1e-5, 1e-6]),
        ("layer_norm_epsilon", float("nan")),
        ("use_ffn_bias", "no"),
        ("share_embedding_weights", None),
        ("extra_attention_params", {"num_kv_groups": 4}),
        ("attention_sliding_window_length", "long"),
        ("rope_theta", "many"),
    ],
)
def test_what_is_no_value_of_a_field_is_refused_by_its_name(field: str, value: object) -> None:
    pair = llama()
    with pytest.raises(ConvkitError, match=f"{field}.*: is .*, not ") as refused:
        get_oracle("cerebras/llama")(pair.cs_config | {field: value}, pair.cs)
    assert refused.value.remedy == "correct the yaml"


def test_layouts_are_listed() -> None:
    assert "hf/llama" in layouts() and "cerebras/bert" in layouts()
    with pytest.raises(UsageError, match="cerebras/llama"):
        get_oracle("cerebras/nonesuch")
