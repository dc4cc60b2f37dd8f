"""hf/gpt2 <-> cerebras/gpt2.

Facts: ModelZoo release 2.10.0, ``tools/checkpoint_converters/gpt2_hf_cs.py`` (rules of cs-2.1 ... cs-2.9)
and ``models/nlp/gpt2/gpt2_model.py``; transformers, ``models/gpt2``: its ``Conv1D`` stores weights ``[in, out]``; up to
release 4.30 it saved the causal mask and its fill value as buffers.
"""

from __future__ import annotations

from convkit.config import ConfigTable, Constant, Field
from convkit.mapping import Derived, Fact, Layout, LeftBehind, Mapping, Rule, Variant, under
from convkit.mappings.cerebras.classes import RELEASES
from convkit.mappings.cerebras.common import (
    ACTIVATIONS,
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
    output_head,
)
from convkit.mappings.cerebras.hf import COMPANIONS

HF = Layout(
    name="hf/gpt2",
    summary="transformers GPT2LMHeadModel, GPT2Model",
    format="safetensors",
    config_file="config.json",
    conventions={"kernels": "in, out", "qkv": "fused"},
    signature=({"model_type": "gpt2"},),
    companions=COMPANIONS,
)
CS = Layout(
    name="cerebras/gpt2",
    summary="ModelZoo GPT2LMHeadModel, releases 2.1 ... 2.10",
    format="cerebras-h5",
    config_file="params.yaml",
    releases=RELEASES,
    config_at=MODEL_AT,
    conventions={"kernels": "out, in", "qkv": "apart"},
    signature=(
        {"model.name": "gpt2"},
        {
            "model.name": None,
            "model.nonlinearity": tuple(cs for _, cs in ACTIVATIONS),
            "model.norm_type": (None, "layernorm"),
            "model.position_embedding_type": (None, "learned"),
            "model.attention_module": (None, "aiayn_attention"),
        },
    ),
)

LAYER = (
    Rule("attn.c_attn.weight", "self_attn.proj_{qkv:q|k|v}_dense_layer.weight",
         "d (qkv o) -> qkv o d", d="hidden", o="hidden"),
    Rule("attn.c_attn.bias", "self_attn.proj_{qkv:q|k|v}_dense_layer.bias", "(qkv o) -> qkv o", o="hidden"),
    Rule("attn.c_proj.weight", "self_attn.proj_output_dense_layer.weight", "d o -> o d", d="hidden", o="hidden"),
    Rule("attn.c_proj.bias", "self_attn.proj_output_dense_layer.bias", "o -> o", o="hidden"),
    Rule("ln_1.{p:weight|bias}", "norm1.{p}", "d -> d", d="hidden"),
    Rule("ln_2.{p:weight|bias}", "norm3.{p}", "d -> d", d="hidden"),
    Rule("mlp.c_fc.weight", "ffn.ffn.0.linear_layer.weight", "d f -> f d", d="hidden", f="filter"),
    Rule("mlp.c_fc.bias", "ffn.ffn.0.linear_layer.bias", "f -> f", f="filter"),
    Rule("mlp.c_proj.weight", "ffn.ffn.1.linear_layer.weight", "f d -> d f", d="hidden", f="filter"),
    Rule("mlp.c_proj.bias", "ffn.ffn.1.linear_layer.bias", "d -> d", d="hidden"),
    Derived("left", "attn.bias", "causal mask", {"n": "positions"}),
    Derived("left", "attn.masked_bias", "constant", {"value": -1e4}),
)  # fmt: skip

RULES = (
    Rule(("{=hf}wte.weight", "lm_head.weight"),
         ("{=cs}embedding_layer.word_embeddings.weight", "{=cs}lm_head.weight"), "v d -> v d",
         v="vocab", d="hidden", when="tied & !headless"),
    Rule("{=hf}wte.weight", ("{=cs}embedding_layer.word_embeddings.weight", "{=cs}lm_head.weight"),
         "v d -> v d", v="vocab", d="hidden", when="tied & headless"),
    Rule("{=hf}wte.weight", "{=cs}embedding_layer.word_embeddings.weight", "v d -> v d",
         v="vocab", d="hidden", when="!tied"),
    Rule("lm_head.weight", "{=cs}lm_head.weight", "v d -> v d", v="vocab", d="hidden", when="!tied & !headless"),
    LeftBehind("right", "{=cs}lm_head.weight", "a base model has no output head", when="!tied & headless"),
    Rule("{=hf}wpe.weight", "{=cs}embedding_layer.position_embeddings.embed.weight", "p d -> p d",
         p="positions", d="hidden"),
    *under("{=hf}h.{i}.", "{=cs}transformer_decoder.layers.{i}.", LAYER),
    Rule("{=hf}ln_f.{p:weight|bias}", ("{=cs}transformer_decoder.norm.{p}", "{=cs}ln_f.{p}"), "d -> d", d="hidden"),
    NOT_THE_MODEL,
)  # fmt: skip

CONFIG = ConfigTable(
    left_source=HF_DEFAULTS.format("gpt2", "GPT2Config"),
    right_source=CS_DEFAULTS.format("gpt2/gpt2_model.py", "GPT2LMHeadModelConfig"),
    right_at=MODEL_AT,
    rows=(
        Constant("left", "model_type", "gpt2"),
        Constant("right", "name", "gpt2", since=(2, 4)),
        Field("vocab_size", "vocab_size", "vocab", 50257, 50257),
        Field("n_embd", "hidden_size", "hidden", 768, 768),
        Field("n_layer", "num_hidden_layers", "layers", 12, 12),
        Field("n_head", "num_heads", "heads", 12, 12),
        Field("n_inner", "filter_size", "filter", None, 3072, null=lambda names: 4 * names["hidden"]),
        Field("activation_function", "nonlinearity", "act", "gelu_new", "gelu", ACTIVATIONS),
        Field("n_positions", "max_position_embeddings", "positions", 1024, 1024),
        Field("layer_norm_epsilon", "layer_norm_epsilon", "eps", 1e-5, 1e-5),
        Field("initializer_range", "initializer_range", "", 0.02, 0.02),
        Field("resid_pdrop", "dropout_rate", "dropout", 0.1, 0.1),
        Field("embd_pdrop", "embedding_dropout_rate", "", 0.1, None, null=lambda names: names["dropout"]),
        Field("attn_pdrop", "attention_dropout_rate", "", 0.1, 0.1, null=lambda names: names["dropout"]),
        Field("tie_word_embeddings", "share_embedding_weights", "tied", True, True),
        Field("scale_attn_weights", "attention_type", "", True, "scaled_dot_product",
              ((True, "scaled_dot_product"), (False, "dot_product"))),
        Constant("left", "scale_attn_by_inverse_layer_idx", False, write=False),
        Constant("left", "reorder_and_upcast_attn", False, write=False),
        Constant("right", "use_bias_in_output", False),
        Constant("right", "norm_type", "layernorm", write=False),
        Constant("right", "position_embedding_type", "learned", write=False),
        Constant("right", "embedding_layer_norm", False, write=False),
        Constant("right", "attention_module", "aiayn_attention", write=False),
        Constant("right", "attention_inner_dim", None, write=False),
        Constant("right", "use_projection_bias_in_attention", True, write=False),
        Constant("right", "use_ffn_bias_in_attention", True, write=False),
        Constant("right", "use_ffn_bias", True, write=False),
        *OLD_FIELDS,
        HALF_TYPE,
        *output_head("GPT2Model", "GPT2LMHeadModel"),
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
    variants=(Variant("hf", "left", ("transformer.", ""), "{=hf}wte.weight", headless=""), CS_PREFIX),
    facts=(Fact("lm_head", "lm_head.weight", "{=cs}lm_head.weight"),),
    axes={"i": "layers"},
)
