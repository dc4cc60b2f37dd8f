"""BERT, and the encoders with its fields: RoBERTa and DPR."""

from __future__ import annotations

from convkit.config.classes import ClassField, ConfigClass, free
from convkit.config.values import AMOUNT, COUNT, FLAG, RATE, TEXT, WHOLE
from convkit.mappings.cerebras.hf_classes.pretrained import PRETRAINED, SOURCE, tokens

ENCODER = {
    "vocab_size": ClassField(COUNT, 30522),
    "hidden_size": ClassField(COUNT, 768),
    "num_hidden_layers": ClassField(COUNT, 12),
    "num_attention_heads": ClassField(COUNT, 12, told=True),
    "intermediate_size": ClassField(COUNT, 3072),
    "hidden_act": ClassField(TEXT, "gelu"),
    "hidden_dropout_prob": free(RATE, 0.1),
    "attention_probs_dropout_prob": free(RATE, 0.1),
    "max_position_embeddings": ClassField(COUNT, 512),
    "type_vocab_size": ClassField(COUNT, 2),
    "initializer_range": free(AMOUNT, 0.02),
    "layer_norm_eps": ClassField(AMOUNT, 1e-12),
    "is_decoder": ClassField(FLAG, False, why="it sees only what comes before"),
    "add_cross_attention": ClassField(FLAG, False, why="its layers attend to another model's output too"),
    # transformers 4
    "position_embedding_type": ClassField(TEXT.or_null, "absolute"),
}  # fmt: skip
#: the fields of an encoder with a head
HEADED = {
    "classifier_dropout": free(RATE.or_null),
    "tie_word_embeddings": ClassField(FLAG, True),
}

BERT_CONFIG = ConfigClass(
    "BertConfig", SOURCE.format("bert", "BertConfig"), PRETRAINED | tokens(None, None, 0) | ENCODER | HEADED
)
ROBERTA_CONFIG = ConfigClass(
    "RobertaConfig", SOURCE.format("roberta", "RobertaConfig"), PRETRAINED | tokens(0, 2, 1) | ENCODER | HEADED | {
    "vocab_size": ClassField(COUNT, 50265),
    "pad_token_id": ClassField(WHOLE, 1),  # positions are counted from it on
})  # fmt: skip
DPR_CONFIG = ConfigClass(
    "DPRConfig", SOURCE.format("dpr", "DPRConfig"), PRETRAINED | tokens(None, None, 0) | ENCODER | {
    "projection_dim": ClassField(WHOLE, 0),
})  # fmt: skip
