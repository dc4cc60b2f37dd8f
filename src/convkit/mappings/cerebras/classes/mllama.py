"""ModelZoo's configs of Llama 3.2 Vision.

Facts: ``tools/checkpoint_converters/mllama.py`` of 2.5.0 ... 2.10.0. No release has the class of the whole nor that of
the vision model: their fields are those that the converter writes. The text model is of the LLaMA class, whose layers
may attend to images since 2.5.
"""

from __future__ import annotations

from convkit.config.classes import ABSENT, REQUIRED, ClassField, ConfigClass, free
from convkit.config.values import AMOUNT, COUNT, FLAG, LIST, SECTION, TEXT, WHOLE

MLLAMA = ConfigClass("Mllama", "ModelZoo 2.10.0, tools/checkpoint_converters/mllama.py", {
    "name": free(TEXT, ABSENT),
    "text_model": ClassField(SECTION, REQUIRED),
    "image_model": ClassField(SECTION, REQUIRED),
})  # fmt: skip

MLLAMA_VISION = ConfigClass("MllamaVisionModel", "ModelZoo 2.10.0, tools/checkpoint_converters/mllama.py", {
    "name": free(TEXT, ABSENT),
    "image_size": ClassField(LIST.of(COUNT), REQUIRED),
    "patch_size": ClassField(LIST.of(COUNT), REQUIRED),
    "num_channels": ClassField(COUNT, REQUIRED),
    "hidden_size": ClassField(COUNT, REQUIRED),
    "num_hidden_layers": ClassField(COUNT, REQUIRED),
    "num_global_layers": ClassField(COUNT, REQUIRED),
    "num_heads": ClassField(COUNT, REQUIRED),
    "filter_size": ClassField(COUNT, REQUIRED),
    "nonlinearity": ClassField(TEXT, REQUIRED),
    "layer_norm_epsilon": ClassField(AMOUNT, REQUIRED),
    "supported_aspect_ratios": ClassField(LIST.of(LIST.of(COUNT)), REQUIRED),
    "intermediate_layers_indices": ClassField(LIST.of(WHOLE), REQUIRED),
    "vision_output_dim": ClassField(COUNT, REQUIRED),
    "use_conv_patchified_embedding": ClassField(FLAG, False),
    "use_projection_bias_in_attention": ClassField(FLAG, True),
    "use_ffn_bias_in_attention": ClassField(FLAG, False),
    "use_ffn_bias": ClassField(FLAG, True),
    "initializer_range": free(AMOUNT, 0.02),
})  # fmt: skip
