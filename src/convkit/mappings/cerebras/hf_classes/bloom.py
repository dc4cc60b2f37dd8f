"""Bloom."""

from __future__ import annotations

from convkit.config.classes import ClassField, ConfigClass, free
from convkit.config.values import AMOUNT, COUNT, FLAG, RATE
from convkit.mappings.cerebras.hf_classes.pretrained import NO_POSITION_TYPE, PRETRAINED, SOURCE, tokens

BLOOM_CONFIG = ConfigClass("BloomConfig", SOURCE.format("bloom", "BloomConfig"), (
    PRETRAINED | tokens(1, 2) | NO_POSITION_TYPE | {
    "vocab_size": ClassField(COUNT, 250880),
    "hidden_size": ClassField(COUNT, 64, also=("n_embed",)),
    "n_layer": ClassField(COUNT, 2, also=("num_hidden_layers",)),
    "n_head": ClassField(COUNT, 8, told=True, also=("num_attention_heads",)),
    "layer_norm_epsilon": ClassField(AMOUNT, 1e-5),
    "initializer_range": free(AMOUNT, 0.02),
    "apply_residual_connection_post_layernorm": ClassField(FLAG, False),
    "hidden_dropout": free(RATE, 0.0),
    "attention_dropout": free(RATE, 0.0),
    "tie_word_embeddings": ClassField(FLAG, True),
    # in which order it adds up
    "pretraining_tp": free(COUNT, 1),
    "slow_but_exact": free(FLAG, False),
    # of the hub's checkpoints: it has no table of positions
    "seq_length": free(COUNT.or_null),
}))  # fmt: skip
