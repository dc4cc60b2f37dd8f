"""LLaVA's two parts: CLIP's vision tower, of which nobody uses the projection, and LLaMA with fields of the whole.

Facts: haotian-liu/LLaVA 1.5, ``llava/model/language_model/llava_llama.py`` (``LlavaConfig``), and what its training
script puts into the config beside that.
"""

from __future__ import annotations

from convkit.config.classes import ClassField, free
from convkit.config.values import ANYTHING, COUNT, FLAG, TEXT, WHOLE
from convkit.mappings.cerebras.hf_classes.llama_like import LLAMA_CONFIG
from convkit.mappings.cerebras.hf_classes.vision import CLIP_VISION_CONFIG

CLIP_TOWER_CONFIG = CLIP_VISION_CONFIG.extended("CLIPVisionConfig", projection_dim=free(COUNT, 512))

LLAVA_CONFIG = LLAMA_CONFIG.extended(
    "LlavaConfig", "haotian-liu/LLaVA 1.5, llava/model/language_model/llava_llama.py, LlavaConfig",
    mm_hidden_size=ClassField(COUNT.or_null, None),
    mm_projector_type=ClassField(TEXT, "mlp2x_gelu"),
    mm_vision_select_feature=ClassField(TEXT, "patch"),
    mm_vision_select_layer=ClassField(WHOLE, -2),
    mm_use_im_start_end=ClassField(FLAG, False),
    mm_use_im_patch_token=ClassField(FLAG, False),
    tune_mm_mlp_adapter=free(FLAG, False),
    # how it was trained, and how its data were made
    mm_vision_tower=free(TEXT.or_null),
    mm_resampler_type=free(TEXT.or_null),
    mm_projector_lr=free(ANYTHING),
    use_mm_proj=free(FLAG, True),
    freeze_mm_mlp_adapter=free(FLAG, False),
    freeze_mm_vision_resampler=free(FLAG, False),
    tune_mm_vision_resampler=free(FLAG, False),
    unfreeze_mm_vision_tower=free(FLAG, False),
    image_aspect_ratio=free(TEXT.or_null, "pad"),
    image_grid_pinpoints=free(ANYTHING),
    mm_patch_merge_type=free(ANYTHING, "flat"),
    tokenizer_model_max_length=free(ANYTHING),
    tokenizer_padding_side=free(ANYTHING),
)  # fmt: skip
