"""Llama 3.2 Vision: a text model, a vision model, and the two together."""

from __future__ import annotations

from convkit.config.classes import ClassField, ConfigClass, free
from convkit.config.values import AMOUNT, ANYTHING, COUNT, FLAG, LIST, POSITIVE, RATE, SECTION, TEXT, WHOLE
from convkit.mappings.cerebras.classes import SCALING
from convkit.mappings.cerebras.hf_classes.pretrained import NO_POSITION_TYPE, PRETRAINED, SOURCE, tokens

MLLAMA_CONFIG = ConfigClass("MllamaConfig", SOURCE.format("mllama", "MllamaConfig"), PRETRAINED | NO_POSITION_TYPE | {
    "text_config": ClassField(SECTION.or_null, None),
    "vision_config": ClassField(SECTION.or_null, None),
    "image_token_index": free(WHOLE, 128256, also=("image_token_id",)),
})  # fmt: skip

MLLAMA_TEXT_CONFIG = ConfigClass("MllamaTextConfig", SOURCE.format("mllama", "MllamaTextConfig"), (
    PRETRAINED | tokens(128000, 128001, 128004) | NO_POSITION_TYPE | {
    "vocab_size": ClassField(COUNT, 128256),
    "hidden_size": ClassField(COUNT, 4096),
    "hidden_act": ClassField(TEXT, "silu"),
    "num_hidden_layers": ClassField(COUNT, 40),
    "num_attention_heads": ClassField(COUNT, 32, told=True),
    "num_key_value_heads": ClassField(COUNT, 8),
    "intermediate_size": ClassField(COUNT, 14336),
    "rms_norm_eps": ClassField(AMOUNT, 1e-5),
    "max_position_embeddings": ClassField(COUNT, 131072),
    "initializer_range": free(AMOUNT, 0.02),
    "tie_word_embeddings": ClassField(FLAG, False),
    "cross_attention_layers": ClassField(LIST.of(WHOLE).or_null, None),
    "dropout": free(RATE, 0.0),
    "rope_parameters": ClassField(SCALING.or_null, None),
    # transformers 4
    "rope_theta": ClassField(POSITIVE.or_null, 500000.0),
    "rope_scaling": ClassField(SCALING.or_null, None),
    "partial_rotary_factor": ClassField(POSITIVE.or_null, 1.0),
    "original_max_position_embeddings": ClassField(COUNT.or_null, None),
}))  # fmt: skip

MLLAMA_VISION_CONFIG = ConfigClass("MllamaVisionConfig", SOURCE.format("mllama", "MllamaVisionConfig"), PRETRAINED | {
    "hidden_size": ClassField(COUNT, 1280),
    "hidden_act": ClassField(TEXT, "gelu"),
    "num_hidden_layers": ClassField(COUNT, 32),
    "num_global_layers": ClassField(COUNT, 8),
    "attention_heads": ClassField(COUNT, 16, also=("num_attention_heads",), told=True),
    "num_channels": ClassField(COUNT, 3),
    "intermediate_size": ClassField(COUNT, 5120),
    "vision_output_dim": ClassField(COUNT, 7680),
    "image_size": ClassField(ANYTHING, 448),
    "patch_size": ClassField(ANYTHING, 14),
    "norm_eps": ClassField(AMOUNT, 1e-5),
    "max_num_tiles": ClassField(COUNT, 4),
    "intermediate_layers_indices": ClassField(LIST.of(WHOLE).or_null, None),
    "supported_aspect_ratios": ClassField(LIST.of(LIST.of(COUNT)).or_null, None),
    "initializer_range": free(AMOUNT, 0.02),
})  # fmt: skip
