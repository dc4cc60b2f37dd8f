"""hf/llama <-> cerebras/llama.

Facts: ModelZoo release 2.10.0, ``tools/checkpoint_converters/llama.py`` (rules of cs-2.1 ... cs-2.9) and
``models/nlp/gpt2`` (the decoder that a llama yaml configures); transformers, ``models/llama``.
"""

from __future__ import annotations

from typing import Any

from convkit.config import ConfigError, ConfigTable, Constant, Coupled, Field, Flag, Name
from convkit.mapping import Derived, Fact, Layout, Mapping, Rule, Variant, under
from convkit.mappings.cerebras.common import CS_DEFAULTS, CS_PREFIX, DROPOUTS_ZERO, HF_DEFAULTS, MUP_REFUSED, NOT_THE_MODEL
from convkit.mappings.cerebras.rope import ROPE

HF = Layout(
    name="hf/llama",
    summary="transformers LlamaForCausalLM, LlamaModel",
    format="safetensors",
    config_file="config.json",
    conventions={"rotary": "half", "norm_scale": "direct", "gate": "gate_proj"},
    signature=({"model_type": "llama"},),
)
CS = Layout(
    name="cerebras/llama",
    summary="ModelZoo GPT2LMHeadModel configured as LLaMA, releases 2.1 ... 2.10",
    format="cerebras-h5",
    config_file="params.yaml",
    releases=True,
    conventions={"rotary": "interleaved", "norm_scale": "direct", "gate": "linear_layer_for_glu"},
    signature=(
        {"model.name": "llama"},
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
    Rule("{=hf}embed_tokens.weight", "{=cs}embedding_layer.word_embeddings.weight", "v d -> v d",
         v="vocab", d="hidden", when="!tied"),
    Rule("lm_head.weight", "{=cs}lm_head.weight", "v d -> v d", v="vocab", d="hidden", when="!tied",
         optional=True, absent="the source has no output head and its embeddings aren't tied: no lm_head is written"),
    Rule(("{=hf}embed_tokens.weight", "lm_head.weight"),
         ("{=cs}embedding_layer.word_embeddings.weight", "{=cs}lm_head.weight"), "v d -> v d",
         v="vocab", d="hidden", when="tied & hf=model."),
    Rule("{=hf}embed_tokens.weight", ("{=cs}embedding_layer.word_embeddings.weight", "{=cs}lm_head.weight"),
         "v d -> v d", v="vocab", d="hidden", when="tied & hf="),
    *under("{=hf}layers.{i}.", "{=cs}transformer_decoder.layers.{i}.", LAYER),
    Rule("{=hf}norm.weight", ("{=cs}transformer_decoder.norm.weight", "{=cs}ln_f.weight"), "d -> d", d="hidden"),
    Derived("left", "{=hf}layers.{i}.self_attn.rotary_emb.inv_freq", "inverse frequencies",
            {"theta": "rope_theta", "dim": "head_dim"}),
    NOT_THE_MODEL,
)  # fmt: skip

def _head_dim_to_cerebras(values: dict[str, Any], names: dict[str, Any]) -> dict[str, Any]:
    head_dim = values.get("head_dim") or names["head_dim"]
    if head_dim != names["head_dim"]:
        raise ConfigError(
            f"head_dim = {head_dim}, but hidden_size/num_attention_heads = {names['head_dim']}",
            key="head_dim",
            remedy="the Cerebras llama has no head size of its own",
        )
    return {"rotary_dim": head_dim}


def _head_dim_to_hf(values: dict[str, Any], names: dict[str, Any]) -> dict[str, Any]:
    rotary_dim = values.get("rotary_dim", names["head_dim"])
    if rotary_dim != names["head_dim"]:
        raise ConfigError(
            f"rotary_dim = {rotary_dim}, but hidden_size/num_heads = {names['head_dim']}",
            key="rotary_dim",
            remedy="the llama of transformers rotates whole heads",
        )
    return {}


ACTIVATIONS = (("silu", "swiglu"), ("relu", "reglu"), ("gelu", "geglu"))


def _kv_to_cerebras(values: dict[str, Any], names: dict[str, Any]) -> dict[str, Any]:
    heads = names["heads"]
    kv_heads = values.get("num_key_value_heads")
    kv_heads = heads if kv_heads is None else kv_heads
    if kv_heads < 1 or heads % kv_heads:
        raise ConfigError(
            f"num_key_value_heads = {kv_heads} doesn't divide num_attention_heads = {heads}",
            key="num_key_value_heads",
            remedy="correct the config",
        )
    if kv_heads == heads:
        return {"=kv_heads": kv_heads, "attention_module": "aiayn_attention"}
    grouped = {"num_kv_groups": kv_heads}
    return {"=kv_heads": kv_heads, "attention_module": "multiquery_attention", "extra_attention_params": grouped}


def _kv_to_hf(values: dict[str, Any], names: dict[str, Any]) -> dict[str, Any]:
    if values.get("attention_module", "aiayn_attention") == "aiayn_attention":
        return {"=kv_heads": names["heads"], "num_key_value_heads": names["heads"]}
    kv_heads = (values.get("extra_attention_params") or {}).get("num_kv_groups", 1)
    return {"=kv_heads": kv_heads, "num_key_value_heads": kv_heads}


CONFIG = ConfigTable(
    left_source=HF_DEFAULTS.format("llama", "LlamaConfig"),
    right_source=CS_DEFAULTS.format("gpt2", "GPT2ModelConfig"),
    right_at=("model", "trainer.init.model"),
    rows=(
        Constant("left", "model_type", "llama"),
        Constant("right", "name", "llama", since=(2, 4)),
        Field("vocab_size", "vocab_size", "vocab", 32000),
        Field("hidden_size", "hidden_size", "hidden", 4096),
        Field("num_hidden_layers", "num_hidden_layers", "layers", 32),
        Field("num_attention_heads", "num_heads", "heads", 32),
        Field("intermediate_size", "filter_size", "filter", 11008),
        Field("hidden_act", "nonlinearity", "act", "silu", "gelu", ACTIVATIONS),
        Field("max_position_embeddings", "max_position_embeddings", "positions", 2048, 1024),
        Field("rms_norm_eps", "layer_norm_epsilon", "eps", 1e-6, 1e-5),
        Field("initializer_range", "initializer_range", "", 0.02, 0.02),
        Field("tie_word_embeddings", "share_embedding_weights", "tied", False, True),
        Coupled(
            ("num_key_value_heads",), ("attention_module", "extra_attention_params"), _kv_to_cerebras, _kv_to_hf
        ),
        ROPE,
        Name("head_dim", lambda names: names["hidden"] // names["heads"]),
        Name("half", lambda names: names["head_dim"] // 2),
        Coupled(("head_dim",), ("rotary_dim",), _head_dim_to_cerebras, _head_dim_to_hf),
        Flag("attention_bias", "use_projection_bias_in_attention", "qkv_bias", False, True),
        Flag("attention_bias", "use_ffn_bias_in_attention", "o_bias", False, True),
        Flag("mlp_bias", "use_ffn_bias", "mlp_bias", False, True),
        Constant("right", "norm_type", "rmsnorm", default="layernorm"),
        Constant("right", "position_embedding_type", "rotary", default="learned"),
        Constant("right", "attention_type", "scaled_dot_product", default="scaled_dot_product"),
        Constant("right", "use_bias_in_output", False, default=False),
        Constant("right", "embedding_layer_norm", False, default=False),
        *DROPOUTS_ZERO,
        MUP_REFUSED,
    ),
)

MAPPING = Mapping(
    left=HF,
    right=CS,
    rules=RULES,
    config=CONFIG,
    variants=(Variant("hf", "left", ("model.", ""), "{=hf}embed_tokens.weight", headless=""), CS_PREFIX),
    facts=(
        Fact("qkv_bias", "{=hf}layers.{i}.self_attn.q_proj.bias",
             "{=cs}transformer_decoder.layers.{i}.self_attn.proj_q_dense_layer.bias"),
        Fact("o_bias", "{=hf}layers.{i}.self_attn.o_proj.bias",
             "{=cs}transformer_decoder.layers.{i}.self_attn.proj_output_dense_layer.bias"),
        Fact("mlp_bias", "{=hf}layers.{i}.mlp.up_proj.bias",
             "{=cs}transformer_decoder.layers.{i}.ffn.ffn.0.linear_layer.bias"),
    ),
    axes={"i": "layers"},
)  # fmt: skip
