"""ESM."""

from __future__ import annotations

from convkit.config.classes import ClassField, ConfigClass, free
from convkit.config.values import AMOUNT, ANYTHING, COUNT, FLAG, POSITIVE, RATE, TEXT, WHOLE
from convkit.mappings.cerebras.hf_classes.pretrained import PRETRAINED, SOURCE, tokens

ESM_CONFIG = ConfigClass("EsmConfig", SOURCE.format("esm", "EsmConfig"), PRETRAINED | tokens(None, 2) | {
    "vocab_size": ClassField(COUNT, None),  # no model can be built without it
    "mask_token_id": ClassField(WHOLE.or_null, None, beside=("token_dropout", True)),
    "pad_token_id": ClassField(WHOLE.or_null, None, beside=("position_embedding_type", "absolute")),
    "hidden_size": ClassField(COUNT, 768),
    "num_hidden_layers": ClassField(COUNT, 12),
    "num_attention_heads": ClassField(COUNT, 12, told=True),
    "intermediate_size": ClassField(COUNT, 3072),
    "hidden_dropout_prob": free(RATE, 0.1),
    "attention_probs_dropout_prob": free(RATE, 0.1),
    "max_position_embeddings": ClassField(COUNT, 1026),
    "rope_theta": ClassField(POSITIVE, 10000.0, beside=("position_embedding_type", "rotary")),
    "initializer_range": free(AMOUNT, 0.02),
    "layer_norm_eps": ClassField(AMOUNT, 1e-12),
    "position_embedding_type": ClassField(TEXT.or_null, "absolute"),
    "emb_layer_norm_before": ClassField(FLAG.or_null, None),
    "token_dropout": ClassField(FLAG.or_null, False),
    "is_folding_model": ClassField(FLAG.or_null, False, why="it folds proteins: ModelZoo has only the language model"),
    "esmfold_config": ClassField(ANYTHING, None, beside=("is_folding_model", True)),
    "vocab_list": free(ANYTHING),
    "is_decoder": ClassField(FLAG.or_null, False, why="it sees only what comes before"),
    "add_cross_attention": ClassField(FLAG.or_null, False, why="its layers attend to another model's output too"),
    "tie_word_embeddings": ClassField(FLAG, True),
})  # fmt: skip
