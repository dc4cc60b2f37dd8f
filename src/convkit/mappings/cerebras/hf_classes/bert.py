"""BERT."""

from __future__ import annotations

from convkit.config.classes import ClassField, ConfigClass, free
from convkit.config.values import AMOUNT, COUNT, FLAG, RATE, TEXT
from convkit.mappings.cerebras.hf_classes.pretrained import PRETRAINED, SOURCE, tokens

BERT_CONFIG = ConfigClass("BertConfig", SOURCE.format("bert", "BertConfig"), PRETRAINED | tokens(None, None, 0) | {
    "vocab_size": ClassField(COUNT, 30522),
    "hidden_size": ClassField(COUNT, 768),
    "num_hidden_layers": ClassField(COUNT, 12),
    "num_attention_heads": ClassField(COUNT, 12, told=True),
    "intermediate_size": ClassField(COUNT, 3072),
    "hidden_act": ClassField(TEXT, "gelu"),
    "hidden_dropout_prob": free(RATE, 0.1),
    "attention_probs_dropout_prob": free(RATE, 0.1),
    "classifier_dropout": free(RATE.or_null),
    "max_position_embeddings": ClassField(COUNT, 512),
    "type_vocab_size": ClassField(COUNT, 2),
    "initializer_range": free(AMOUNT, 0.02),
    "layer_norm_eps": ClassField(AMOUNT, 1e-12),
    "is_decoder": ClassField(FLAG, False, why="it sees only what comes before"),
    "add_cross_attention": ClassField(FLAG, False, why="its layers attend to another model's output too"),
    "tie_word_embeddings": ClassField(FLAG, True),
    # transformers 4
    "position_embedding_type": ClassField(TEXT.or_null, "absolute"),
})  # fmt: skip
