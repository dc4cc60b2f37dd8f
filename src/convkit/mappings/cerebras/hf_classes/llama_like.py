"""LLaMA, and those whose fields are as its own."""

from __future__ import annotations

from convkit.config.classes import ClassField, ConfigClass, free
from convkit.config.values import AMOUNT, COUNT, FLAG, POSITIVE, RATE, TEXT, WHOLE
from convkit.mappings.cerebras.classes import SCALING
from convkit.mappings.cerebras.hf_classes.pretrained import NO_POSITION_TYPE, PRETRAINED, SOURCE, tokens

LLAMA_CONFIG = ConfigClass("LlamaConfig", SOURCE.format("llama", "LlamaConfig"), (
    PRETRAINED | tokens(1, 2) | NO_POSITION_TYPE | {
    "vocab_size": ClassField(COUNT, 32000),
    "hidden_size": ClassField(COUNT, 4096),
    "intermediate_size": ClassField(COUNT, 11008),
    "num_hidden_layers": ClassField(COUNT, 32),
    "num_attention_heads": ClassField(COUNT, 32, told=True),
    "num_key_value_heads": ClassField(COUNT.or_null, None),
    "head_dim": ClassField(COUNT.or_null, None),
    "hidden_act": ClassField(TEXT, "silu"),
    "max_position_embeddings": ClassField(COUNT, 2048),
    "initializer_range": free(AMOUNT, 0.02),
    "rms_norm_eps": ClassField(AMOUNT, 1e-6),
    "pretraining_tp": free(WHOLE.or_null, 1),
    "tie_word_embeddings": ClassField(FLAG, False),
    "attention_bias": ClassField(FLAG, False),
    "attention_dropout": free(RATE.or_null, 0.0),
    "mlp_bias": ClassField(FLAG, False),
    "rope_parameters": ClassField(SCALING.or_null, None),
    # transformers 4
    "rope_theta": ClassField(POSITIVE.or_null, 10000.0),
    "rope_scaling": ClassField(SCALING.or_null, None),
    "partial_rotary_factor": ClassField(POSITIVE.or_null, 1.0),
    "original_max_position_embeddings": ClassField(COUNT.or_null, None),
}))  # fmt: skip

_without_biases = {name: field for name, field in LLAMA_CONFIG.fields.items() if not name.endswith("_bias")}

MISTRAL_CONFIG = ConfigClass("MistralConfig", SOURCE.format("mistral", "MistralConfig"), _without_biases | {
    "intermediate_size": ClassField(COUNT, 14336),
    "num_key_value_heads": ClassField(COUNT.or_null, 8),
    "max_position_embeddings": ClassField(COUNT, 131072),
    "sliding_window": ClassField(COUNT.or_null, 4096),
})  # fmt: skip

MIXTRAL_CONFIG = ConfigClass("MixtralConfig", SOURCE.format("mixtral", "MixtralConfig"), dict(MISTRAL_CONFIG.fields) | {
    "rms_norm_eps": ClassField(AMOUNT, 1e-5),
    "sliding_window": ClassField(COUNT.or_null, None),
    "rope_theta": ClassField(POSITIVE.or_null, 1e6),
    "num_local_experts": ClassField(COUNT, 8, also=("num_experts",)),
    "num_experts_per_tok": ClassField(COUNT, 2),
    "output_router_logits": free(FLAG, False),
    "router_aux_loss_coef": free(AMOUNT, 0.001),
    "router_jitter_noise": free(AMOUNT, 0.0),
})  # fmt: skip
