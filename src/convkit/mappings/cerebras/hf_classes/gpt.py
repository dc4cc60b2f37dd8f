"""Classes with the fields of GPT-2."""

from __future__ import annotations

from convkit.config.classes import ClassField, ConfigClass, free
from convkit.config.values import AMOUNT, COUNT, FLAG, RATE, TEXT
from convkit.mappings.cerebras.hf_classes.pretrained import NO_POSITION_TYPE, PRETRAINED, SOURCE, tokens

#: the fields of OpenAI's spelling
_GPT = {
    "n_positions": ClassField(COUNT, 1024, also=("max_position_embeddings",)),
    "n_embd": ClassField(COUNT, 768, also=("hidden_size",)),
    "n_layer": ClassField(COUNT, 12, also=("num_hidden_layers",)),
    "n_head": ClassField(COUNT, 12, told=True, also=("num_attention_heads",)),
    "n_inner": ClassField(COUNT.or_null, None),
    "n_ctx": free(COUNT.or_null),
    "activation_function": ClassField(TEXT, "gelu_new"),
    "resid_pdrop": free(RATE, 0.1),
    "embd_pdrop": free(RATE, 0.1),
    "attn_pdrop": free(RATE, 0.1),
    "layer_norm_epsilon": ClassField(AMOUNT, 1e-5),
    "initializer_range": free(AMOUNT, 0.02),
    "scale_attn_weights": ClassField(FLAG, True),
    "summary_type": free(TEXT, "cls_index"),
    "summary_use_proj": free(FLAG, True),
    "summary_activation": free(TEXT.or_null),
    "summary_proj_to_labels": free(FLAG, True),
    "summary_first_dropout": free(RATE, 0.1),
}  # fmt: skip

GPT2_CONFIG = ConfigClass("GPT2Config", SOURCE.format("gpt2", "GPT2Config"), (
    PRETRAINED | tokens(50256, 50256) | _GPT | NO_POSITION_TYPE | {
    "vocab_size": ClassField(COUNT, 50257),
    "scale_attn_by_inverse_layer_idx": ClassField(FLAG, False),
    "reorder_and_upcast_attn": ClassField(FLAG, False),
    "add_cross_attention": ClassField(FLAG, False, why="its layers attend to another model's output too"),
    "tie_word_embeddings": ClassField(FLAG, True),
}))  # fmt: skip

GPTJ_CONFIG = ConfigClass("GPTJConfig", SOURCE.format("gptj", "GPTJConfig"), (
    PRETRAINED | tokens(50256, 50256) | _GPT | {
    "vocab_size": ClassField(COUNT, 50400),
    "n_positions": ClassField(COUNT, 2048, also=("max_position_embeddings",)),
    "n_embd": ClassField(COUNT, 4096, also=("hidden_size",)),
    "n_layer": ClassField(COUNT, 28, also=("num_hidden_layers",)),
    "n_head": ClassField(COUNT, 16, told=True, also=("num_attention_heads",)),
    "rotary_dim": ClassField(COUNT, 64),
    "resid_pdrop": free(RATE, 0.0),
    "embd_pdrop": free(RATE, 0.0),
    "attn_pdrop": free(RATE, 0.0),
    "tie_word_embeddings": ClassField(FLAG, False),
    # of ModelZoo's converter: transformers' head always has a bias
    "use_bias_in_output": ClassField(FLAG, True),
}))  # fmt: skip

CODEGEN_CONFIG = GPTJ_CONFIG.extended(
    "CodeGenConfig", SOURCE.format("codegen", "CodeGenConfig"), n_ctx=free(COUNT.or_null, 2048), **NO_POSITION_TYPE
)

GPT_BIGCODE_CONFIG = ConfigClass("GPTBigCodeConfig", SOURCE.format("gpt_bigcode", "GPTBigCodeConfig"), (
    PRETRAINED | tokens(50256, 50256) | _GPT | NO_POSITION_TYPE | {
    "vocab_size": ClassField(COUNT, 50257),
    "activation_function": ClassField(TEXT, "gelu_pytorch_tanh"),
    "multi_query": ClassField(FLAG, True),
    # follows from multi_query, whatever it says
    "num_key_value_heads": free(COUNT.or_null),
    "attention_softmax_in_fp32": free(FLAG, True),
    "scale_attention_softmax_in_fp32": free(FLAG, True),
    "add_cross_attention": ClassField(FLAG, False, why="its layers attend to another model's output too"),
    "tie_word_embeddings": ClassField(FLAG, True),
}))  # fmt: skip
