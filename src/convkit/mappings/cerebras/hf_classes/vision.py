"""Vision transformers. What has a height and a width may be one number for both."""

from __future__ import annotations

from convkit.config.classes import ClassField, ConfigClass, free
from convkit.config.values import AMOUNT, ANYTHING, COUNT, FLAG, RATE, TEXT, WHOLE
from convkit.mappings.cerebras.hf_classes.pretrained import NO_POSITION_TYPE, PRETRAINED, SOURCE

VIT_CONFIG = ConfigClass("ViTConfig", SOURCE.format("vit", "ViTConfig"), PRETRAINED | {
    "hidden_size": ClassField(COUNT, 768),
    "num_hidden_layers": ClassField(COUNT, 12),
    "num_attention_heads": ClassField(COUNT, 12, told=True),
    "intermediate_size": ClassField(COUNT, 3072),
    "hidden_act": ClassField(TEXT, "gelu"),
    "hidden_dropout_prob": free(RATE, 0.0),
    "attention_probs_dropout_prob": free(RATE, 0.0),
    "initializer_range": free(AMOUNT, 0.02),
    "layer_norm_eps": ClassField(AMOUNT, 1e-12),
    "image_size": ClassField(ANYTHING, 224),
    "patch_size": ClassField(ANYTHING, 16),
    "num_channels": ClassField(COUNT, 3),
    "qkv_bias": ClassField(FLAG, True),
    "encoder_stride": free(WHOLE, 16),  # of the decoder that restores masked patches
    "pooler_output_size": ClassField(COUNT.or_null, None),
    "pooler_act": ClassField(TEXT, "tanh"),
})  # fmt: skip

CLIP_VISION_CONFIG = ConfigClass(
    "CLIPVisionConfig", SOURCE.format("clip", "CLIPVisionConfig"), PRETRAINED | NO_POSITION_TYPE | {
    "hidden_size": ClassField(COUNT, 768),
    "intermediate_size": ClassField(COUNT, 3072),
    "projection_dim": ClassField(COUNT, 512),
    "num_hidden_layers": ClassField(COUNT, 12),
    "num_attention_heads": ClassField(COUNT, 12, told=True),
    "num_channels": ClassField(COUNT, 3),
    "image_size": ClassField(ANYTHING, 224),
    "patch_size": ClassField(ANYTHING, 32),
    "hidden_act": ClassField(TEXT, "quick_gelu"),
    "layer_norm_eps": ClassField(AMOUNT, 1e-5),
    "attention_dropout": free(RATE.or_null, 0.0),
    "initializer_range": free(AMOUNT, 0.02),
    "initializer_factor": free(AMOUNT, 1.0),
})  # fmt: skip
