"""T5."""

from __future__ import annotations

from convkit.config.classes import ABSENT, ClassField, ConfigClass, free
from convkit.config.values import AMOUNT, ANYTHING, COUNT, FLAG, NUMBER, RATE, TEXT
from convkit.mappings.cerebras.hf_classes.pretrained import NO_POSITION_TYPE, PRETRAINED, SOURCE, tokens

T5_CONFIG = ConfigClass("T5Config", SOURCE.format("t5", "T5Config"), (
    PRETRAINED | tokens(None, 1, 0) | NO_POSITION_TYPE | {
    "vocab_size": ClassField(COUNT, 32128),
    "d_model": ClassField(COUNT, 512, also=("hidden_size",)),
    "d_kv": ClassField(COUNT, 64, also=("head_dim",)),
    "d_ff": ClassField(COUNT, 2048),
    "num_layers": ClassField(COUNT, 6, also=("num_hidden_layers",)),
    "num_decoder_layers": ClassField(COUNT.or_null, None),
    "num_heads": ClassField(COUNT, 8, told=True, also=("num_attention_heads",)),
    "relative_attention_num_buckets": ClassField(COUNT, 32),
    "relative_attention_max_distance": ClassField(COUNT, 128),
    "layer_norm_epsilon": ClassField(AMOUNT, 1e-6),
    "feed_forward_proj": ClassField(TEXT, "relu"),
    "is_encoder_decoder": ClassField(FLAG, True),
    "tie_word_embeddings": ClassField(FLAG.or_null, True),
    # transformers takes the class's attributes from a config that has them
    "dense_act_fn": ClassField(TEXT, ABSENT),
    "is_gated_act": ClassField(FLAG, ABSENT),
    "scale_decoder_outputs": ClassField(FLAG, ABSENT),
    "dropout_rate": free(RATE, 0.1),
    "classifier_dropout": free(RATE.or_null, 0.0),
    "initializer_factor": free(NUMBER, 1.0),
    "output_past": free(ANYTHING),
}))  # fmt: skip
