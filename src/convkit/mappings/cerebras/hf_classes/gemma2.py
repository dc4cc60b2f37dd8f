"""Gemma 2."""

from __future__ import annotations

from convkit.config.classes import ClassField, ConfigClass
from convkit.config.values import COUNT, FLAG, LIST, POSITIVE, TEXT
from convkit.mappings.cerebras.hf_classes.llama_like import LLAMA_CONFIG
from convkit.mappings.cerebras.hf_classes.pretrained import SOURCE, tokens

_without = ("hidden_act", "pretraining_tp", "mlp_bias")

GEMMA2_CONFIG = ConfigClass("Gemma2Config", SOURCE.format("gemma2", "Gemma2Config"), (
    {name: field for name, field in LLAMA_CONFIG.fields.items() if name not in _without} | tokens(2, 1, 0) | {
    "vocab_size": ClassField(COUNT, 256000),
    "hidden_size": ClassField(COUNT, 2304),
    "intermediate_size": ClassField(COUNT, 9216),
    "num_hidden_layers": ClassField(COUNT, 26),
    "num_attention_heads": ClassField(COUNT, 8, told=True),
    "num_key_value_heads": ClassField(COUNT, 4),
    "head_dim": ClassField(COUNT, 256),
    "hidden_activation": ClassField(TEXT, "gelu_pytorch_tanh"),
    "max_position_embeddings": ClassField(COUNT, 8192),
    "tie_word_embeddings": ClassField(FLAG, True),
    "query_pre_attn_scalar": ClassField(COUNT, 256),
    "sliding_window": ClassField(COUNT.or_null, 4096),
    "layer_types": ClassField(LIST.of(TEXT).or_null, None),
    "final_logit_softcapping": ClassField(POSITIVE.or_null, 30.0),
    "attn_logit_softcapping": ClassField(POSITIVE.or_null, 50.0),
    "use_bidirectional_attention": ClassField(
        FLAG.or_null, None, False, why="each position sees those after it, too"),
}))  # fmt: skip
