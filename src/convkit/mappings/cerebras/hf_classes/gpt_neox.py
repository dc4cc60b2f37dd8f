"""GPT-NeoX."""

from __future__ import annotations

from convkit.config.classes import ClassField, ConfigClass, free
from convkit.config.values import AMOUNT, COUNT, FLAG, POSITIVE, RATE, TEXT
from convkit.mappings.cerebras.classes import SCALING
from convkit.mappings.cerebras.hf_classes.pretrained import PRETRAINED, SOURCE, tokens

GPT_NEOX_CONFIG = ConfigClass("GPTNeoXConfig", SOURCE.format("gpt_neox", "GPTNeoXConfig"), (
    PRETRAINED | tokens(0, 2) | {
    "vocab_size": ClassField(COUNT, 50432),
    "hidden_size": ClassField(COUNT, 6144),
    "num_hidden_layers": ClassField(COUNT, 44),
    "num_attention_heads": ClassField(COUNT, 64, told=True),
    "intermediate_size": ClassField(COUNT, 24576),
    "hidden_act": ClassField(TEXT, "gelu"),
    "attention_dropout": free(RATE, 0.0),
    "hidden_dropout": free(RATE, 0.0),
    "classifier_dropout": free(RATE.or_null, 0.1),
    "max_position_embeddings": ClassField(COUNT, 2048),
    "initializer_range": free(AMOUNT, 0.02),
    "layer_norm_eps": ClassField(AMOUNT, 1e-5),
    "tie_word_embeddings": ClassField(FLAG, False),
    "use_parallel_residual": ClassField(FLAG, True, why="attention and feed-forward part run one after the other"),
    "attention_bias": ClassField(FLAG, True),
    "rope_parameters": ClassField(SCALING.or_null, None),
    # transformers 4
    "rotary_pct": ClassField(POSITIVE, 0.25, also=("partial_rotary_factor",)),
    "rotary_emb_base": ClassField(POSITIVE, 10000, also=("rope_theta",)),
    "rope_scaling": ClassField(SCALING.or_null, None),
    "original_max_position_embeddings": ClassField(COUNT.or_null, None),
}))  # fmt: skip
