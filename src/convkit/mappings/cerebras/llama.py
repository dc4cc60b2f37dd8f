"""hf/llama <-> cerebras/llama.

Facts: ModelZoo release 2.10.0, ``tools/checkpoint_converters/llama.py`` (rules of cs-2.1 ... cs-2.9),
``models/nlp/llama/model.py`` and ``models/nlp/gpt2/gpt2_model.py`` (the decoder that a llama yaml
configures; ``attention_inner_dim``: since 2.3.1); transformers, ``models/llama``.
"""

from __future__ import annotations

from typing import Any

from convkit.config import ConfigTable, Constant, Coupled, Field, Flag, Name
from convkit.errors import ConfigError
from convkit.mapping import Derived, Fact, Layout, LeftBehind, Mapping, Rule, Variant, under
from convkit.mappings.cerebras.classes import RELEASES
from convkit.mappings.cerebras.common import (
    CS_DEFAULTS,
    CS_PREFIX,
    DECODERS_OWN,
    HALF_TYPE,
    HF_DEFAULTS,
    MODEL_AT,
    MUP_REFUSED,
    NO_POSITION_TYPE,
    NOT_THE_MODEL,
    OLD_FIELDS,
    heads_divide,
    output_head,
)
from convkit.mappings.cerebras.hf import COMPANIONS
from convkit.mappings.cerebras.rope import ROPE

HF = Layout(
    name="hf/llama",
    summary="transformers LlamaForCausalLM, LlamaModel",
    format="safetensors",
    config_file="config.json",
    conventions={"rotary": "half", "norm_scale": "direct", "gate": "gate_proj"},
    signature=({"model_type": "llama"},),
    companions=COMPANIONS,
)
CS = Layout(
    name="cerebras/llama",
    summary="ModelZoo GPT2LMHeadModel configured as LLaMA, releases 2.1 ... 2.10",
    format="cerebras-h5",
    config_file="params.yaml",
    releases=RELEASES,
    config_at=MODEL_AT,
    conventions={"rotary": "interleaved", "norm_scale": "direct", "gate": "linear_layer_for_glu"},
    signature=(
        {"model.name": ("llama", "LlamaModel")},
        {"model.name": None, "model.norm_type": "rmsnorm", "model.attention_sliding_window_length": None},
    ),
)

LAYER = (
    Rule("self_attn.q_proj.{p:weight|bias?}", "self_attn.proj_q_dense_layer.{p}",
         "(h two r) ... -> (h r two) ...", h="heads", two=2, r="half"),
    Rule("self_attn.k_proj.{p:weight|bias?}", "self_attn.proj_k_dense_layer.{p}",
         "(h two r) ... -> (h r two) ...", h="kv_heads", two=2, r="half"),
    Rule("self_attn.v_proj.{p:weight|bias?}", "self_attn.proj_v_dense_layer.{p}",
         "(h r) ... -> (h r) ...", h="kv_heads", r="head_dim"),
    Rule("self_attn.o_proj.weight", "self_attn.proj_output_dense_layer.weight",
         "d (h r) -> d (h r)", d="hidden", h="heads", r="head_dim"),
    Rule("self_attn.o_proj.bias", "self_attn.proj_output_dense_layer.bias", "d -> d", d="hidden", optional=True),
    Rule("self_attn.{n:q|k}_norm.weight", "self_attn.{n}_norm.weight", "(two r) -> (r two)", two=2, optional=True),
    Rule("input_layernorm.weight", "norm1.weight", "d -> d", d="hidden"),
    Rule("post_attention_layernorm.weight", "norm3.weight", "d -> d", d="hidden"),
    Rule("mlp.up_proj.{p:weight|bias?}", "ffn.ffn.0.linear_layer.{p}", "f ... -> f ...", f="filter"),
    Rule("mlp.gate_proj.{p:weight|bias?}", "ffn.ffn.0.linear_layer_for_glu.{p}", "f ... -> f ...", f="filter"),
    Rule("mlp.down_proj.{p:weight|bias?}", "ffn.ffn.1.linear_layer.{p}", "d ... -> d ...", d="hidden"),
)  # fmt: skip

RULES = (
    Rule(("{=hf}embed_tokens.weight", "lm_head.weight"),
         ("{=cs}embedding_layer.word_embeddings.weight", "{=cs}lm_head.weight"), "v d -> v d",
         v="vocab", d="hidden", when="tied & !headless"),
    Rule("{=hf}embed_tokens.weight", ("{=cs}embedding_layer.word_embeddings.weight", "{=cs}lm_head.weight"),
         "v d -> v d", v="vocab", d="hidden", when="tied & headless"),
    Rule("{=hf}embed_tokens.weight", "{=cs}embedding_layer.word_embeddings.weight", "v d -> v d",
         v="vocab", d="hidden", when="!tied"),
    Rule("lm_head.weight", "{=cs}lm_head.weight", "v d -> v d", v="vocab", d="hidden", when="!tied & !headless"),
    LeftBehind("right", "{=cs}lm_head.weight", "a base model has no output head", when="!tied & headless"),
    *under("{=hf}layers.{i}.", "{=cs}transformer_decoder.layers.{i}.", LAYER),
    Rule("{=hf}norm.weight", ("{=cs}transformer_decoder.norm.weight", "{=cs}ln_f.weight"), "d -> d", d="hidden"),
    Derived("left", "{=hf}layers.{i}.self_attn.rotary_emb.inv_freq", "inverse frequencies",
            {"theta": "rope_theta", "dim": "head_dim"}),
    NOT_THE_MODEL,
)  # fmt: skip


def _head_dim_to_cerebras(values: dict[str, Any], names: dict[str, Any]) -> dict[str, Any]:
    head_dim = values.get("head_dim") or heads_divide(names["hidden"], names["heads"], "num_attention_heads")
    inner = head_dim * names["heads"]
    if head_dim % 2:
        raise ConfigError(f"heads of size {head_dim} can't be rotated in pairs", key="head_dim", remedy="correct it")
    out = {"=head_dim": head_dim, "rotary_dim": head_dim}
    if inner == names["hidden"]:
        return out
    if names["release"] and names["release"] < (2, 3):
        raise ConfigError(
            f"heads of {head_dim}, but hidden_size/num_attention_heads = {names['hidden'] / names['heads']:g}",
            key="head_dim",
            remedy="Cerebras has a separate head size since release 2.3: --release 2.4",
        )
    return out | {"attention_inner_dim": inner}


def _head_dim_to_hf(values: dict[str, Any], names: dict[str, Any]) -> dict[str, Any]:
    inner = values.get("attention_inner_dim") or names["hidden"]
    head_dim = heads_divide(inner, names["heads"], "num_heads")
    rotary_dim = values.get("rotary_dim")
    if rotary_dim != head_dim:
        stated = "by default, a quarter of a head" if rotary_dim is None else rotary_dim
        raise ConfigError(
            f"is {stated}, but a head has {head_dim}",
            key="rotary_dim",
            remedy="transformers' llama rotates whole heads",
        )
    return {"=head_dim": head_dim} | ({} if inner == names["hidden"] else {"head_dim": head_dim})


def _kv_to_cerebras(values: dict[str, Any], names: dict[str, Any]) -> dict[str, Any]:
    kv_heads = values.get("num_key_value_heads")
    kv_heads = names["heads"] if kv_heads is None else kv_heads
    heads_divide(names["heads"], kv_heads, "num_key_value_heads")
    if kv_heads == names["heads"]:
        return {"=kv_heads": kv_heads, "attention_module": "aiayn_attention"}
    grouped = {"num_kv_groups": kv_heads}
    return {"=kv_heads": kv_heads, "attention_module": "multiquery_attention", "extra_attention_params": grouped}


def _kv_to_hf(values: dict[str, Any], names: dict[str, Any]) -> dict[str, Any]:
    module = values.get("attention_module", "aiayn_attention")
    extra = values.get("extra_attention_params") or {}
    if module == "aiayn_attention" and extra:
        raise ConfigError(f"{extra} beside {module}", key="extra_attention_params", remedy="correct the yaml")
    kv_heads = names["heads"] if module == "aiayn_attention" else extra.get("num_kv_groups", 1)
    heads_divide(names["heads"], kv_heads, "extra_attention_params")
    return {"=kv_heads": kv_heads, "num_key_value_heads": kv_heads}


GATED = (("silu", "swiglu"), ("relu", "reglu"), ("gelu", "geglu"))

CONFIG = ConfigTable(
    left_source=HF_DEFAULTS.format("llama", "LlamaConfig"),
    right_source=CS_DEFAULTS.format("gpt2/gpt2_model.py", "GPT2LMHeadModelConfig"),
    right_at=MODEL_AT,
    rows=(
        Constant("left", "model_type", "llama"),
        Constant("right", "name", "llama", also=("LlamaModel",), since=(2, 4)),
        Field("vocab_size", "vocab_size", "vocab", 32000, 50257),
        Field("hidden_size", "hidden_size", "hidden", 4096, 768),
        Field("num_hidden_layers", "num_hidden_layers", "layers", 32, 12),
        Field("num_attention_heads", "num_heads", "heads", 32, 12),
        Field("intermediate_size", "filter_size", "filter", 11008, 3072),
        Field("hidden_act", "nonlinearity", "act", "silu", "gelu", GATED),
        Field("max_position_embeddings", "max_position_embeddings", "positions", 2048, 1024),
        Field("rms_norm_eps", "layer_norm_epsilon", "eps", 1e-6, 1e-5),
        Field("initializer_range", "initializer_range", "", 0.02, 0.02),
        Field("attention_dropout", "attention_dropout_rate", "", 0.0, 0.1),
        Field("tie_word_embeddings", "share_embedding_weights", "tied", False, True),
        Coupled(("head_dim",), ("rotary_dim", "attention_inner_dim"), _head_dim_to_cerebras, _head_dim_to_hf),
        Name("half", lambda names: names["head_dim"] // 2),
        Coupled(
            ("num_key_value_heads",), ("attention_module", "extra_attention_params"), _kv_to_cerebras, _kv_to_hf
        ),
        ROPE,
        Flag("attention_bias", "use_projection_bias_in_attention", "qkv_bias", False, True),
        Flag("attention_bias", "use_ffn_bias_in_attention", "o_bias", False, True),
        Flag("mlp_bias", "use_ffn_bias", "mlp_bias", False, True),
        Constant("right", "norm_type", "rmsnorm", default="layernorm"),
        Constant("right", "position_embedding_type", "rotary", default="learned"),
        Constant("right", "attention_type", "scaled_dot_product"),
        Constant("right", "use_bias_in_output", False),
        Constant("right", "embedding_layer_norm", False),
        Constant("right", "dropout_rate", 0.0),
        Constant("right", "embedding_dropout_rate", 0.0),
        *OLD_FIELDS,
        HALF_TYPE,
        *output_head("LlamaModel", "LlamaForCausalLM"),
        NO_POSITION_TYPE,
        MUP_REFUSED,
        DECODERS_OWN,
    ),
)  # fmt: skip

MAPPING = Mapping(
    left=HF,
    right=CS,
    rules=RULES,
    config=CONFIG,
    variants=(Variant("hf", "left", ("model.", ""), "{=hf}embed_tokens.weight", headless=""), CS_PREFIX),
    facts=(
        Fact("lm_head", "lm_head.weight", "{=cs}lm_head.weight"),
        Fact("qkv_bias", "{=hf}layers.{i}.self_attn.q_proj.bias",
             "{=cs}transformer_decoder.layers.{i}.self_attn.proj_q_dense_layer.bias"),
        Fact("o_bias", "{=hf}layers.{i}.self_attn.o_proj.bias",
             "{=cs}transformer_decoder.layers.{i}.self_attn.proj_output_dense_layer.bias"),
        Fact("mlp_bias", "{=hf}layers.{i}.mlp.up_proj.bias",
             "{=cs}transformer_decoder.layers.{i}.ffn.ffn.0.linear_layer.bias"),
    ),
    axes={"i": "layers"},
)  # fmt: skip
