"""Falcon, and the class by which its first models came on the hub: RefinedWeb.

Facts of ``RWConfig``: ``configuration_RW.py`` beside the models tiiuae/falcon-7b (``RefinedWebModel``) and
tiiuae/falcon-40b (``RefinedWeb``) until July 2023. It has no field for the positions, whose number ModelZoo's converter
takes as 2048, nor for the base of the rotation, which is 10000.
"""

from __future__ import annotations

from convkit.config.classes import ClassField, ConfigClass, free
from convkit.config.values import AMOUNT, COUNT, FLAG, POSITIVE, RATE, TEXT, WHOLE
from convkit.mappings.cerebras.classes import SCALING
from convkit.mappings.cerebras.hf_classes.pretrained import PRETRAINED, SOURCE, tokens

#: the fields of both
_SHARED = {
    "num_ln_in_parallel_attn": ClassField(WHOLE.or_null, None),
    "initializer_range": free(AMOUNT, 0.02),
    "hidden_dropout": free(RATE.or_null, 0.0),
    "attention_dropout": free(RATE.or_null, 0.0),
    "alibi": ClassField(FLAG.or_null, False),
    "new_decoder_architecture": ClassField(FLAG.or_null, False),
    "bias": ClassField(FLAG.or_null, False),
    "max_position_embeddings": ClassField(COUNT, 2048),
    "layer_norm_epsilon": ClassField(AMOUNT.or_null, 1e-5),
    "ffn_hidden_size": ClassField(COUNT.or_null, None),
    "activation": ClassField(TEXT.or_null, "gelu"),
    "tie_word_embeddings": ClassField(FLAG, True),
}  # fmt: skip

FALCON_CONFIG = ConfigClass("FalconConfig", SOURCE.format("falcon", "FalconConfig"), PRETRAINED | tokens(11, 11) | {
    **_SHARED,
    "vocab_size": ClassField(COUNT, 65024),
    "hidden_size": ClassField(COUNT, 4544),
    "num_hidden_layers": ClassField(COUNT, 32),
    "num_attention_heads": ClassField(COUNT, 71, told=True),
    "num_kv_heads": ClassField(COUNT.or_null, None),
    "multi_query": ClassField(FLAG.or_null, True),
    "parallel_attn": ClassField(FLAG.or_null, True),
    "rope_parameters": ClassField(SCALING.or_null, None),
    # transformers 4
    "n_embed": ClassField(COUNT.or_null, None, why="another name of hidden_size"),
    "rope_theta": ClassField(POSITIVE, 10000.0),
    "rope_scaling": ClassField(SCALING.or_null, None),
    "partial_rotary_factor": ClassField(POSITIVE.or_null, 1.0),
    "original_max_position_embeddings": ClassField(COUNT.or_null, None),
})  # fmt: skip

RW_CONFIG = ConfigClass("RWConfig", "configuration_RW.py of tiiuae/falcon-7b and -40b", PRETRAINED | tokens(1, 2) | {
    **_SHARED,
    "vocab_size": ClassField(COUNT, 250880),
    "hidden_size": ClassField(COUNT, 64, also=("n_embed",)),
    "num_hidden_layers": ClassField(COUNT, 2, also=("n_layer",)),
    "num_attention_heads": ClassField(COUNT, 8, told=True, also=("n_head",)),
    "num_kv_heads": ClassField(COUNT.or_null, None, also=("n_head_kv",)),
    "multi_query": ClassField(FLAG, False),
    "parallel_attn": ClassField(FLAG, False),
    "apply_residual_connection_post_layernorm": ClassField(FLAG, False),
})  # fmt: skip
