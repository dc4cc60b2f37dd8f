"""ModelZoo's class of vision transformers that classify images.

Facts: ``models/vision/vision_transformer/{ViTModel,ViTClassificationModel,model}.py`` (``ViTModelConfig``,
``ViTClassificationModelConfig``, ``VisionTransformerModelConfig``); 2.2 and 2.3: the ``config.py`` there; 2.1.1 has no
such class, though ModelZoo's converter writes yamls for it.
"""

from __future__ import annotations

from convkit.config.classes import ABSENT, ClassField, ConfigClass, free
from convkit.config.values import AMOUNT, ANYTHING, COUNT, FLAG, LIST, NUMBER, RATE, TEXT, WHOLE
from convkit.mappings.cerebras.classes import GROUPED

VISION_TRANSFORMER = ConfigClass(
    "VisionTransformerModelConfig",
    "ModelZoo 2.10.0, models/vision/vision_transformer, VisionTransformerModelConfig", {
    "name": free(TEXT, ABSENT, since=(2, 4)),
    "image_size": ClassField(LIST.of(COUNT), [224, 224]),
    "patch_size": ClassField(LIST.of(COUNT).or_null, [16, 16]),
    "num_channels": ClassField(COUNT.or_null, 3, moved=(((2, 4), 2),)),
    "hidden_size": ClassField(COUNT.or_null, 768),
    "num_hidden_layers": ClassField(COUNT, 12),
    "num_heads": ClassField(COUNT, 12, told=True),
    "filter_size": ClassField(COUNT.or_null, 3072),
    "num_classes": ClassField(COUNT, 2),
    "nonlinearity": ClassField(TEXT, "gelu"),
    "layer_norm_epsilon": ClassField(AMOUNT, 1e-5),
    "norm_first": ClassField(FLAG, True),
    "attention_module": ClassField(TEXT, "aiayn_attention"),
    "extra_attention_params": ClassField(GROUPED.or_null, {}, beside=("attention_module", "multiquery_attention")),
    "attention_type": ClassField(TEXT, "scaled_dot_product"),
    "position_embedding_type": ClassField(TEXT.or_null, "learned"),
    "interpolate_position_embedding": ClassField(ANYTHING, None, since=(2, 4), why="positions are interpolated"),
    "prepend_cls_token": ClassField(FLAG, True),
    "use_conv_patchified_embedding": ClassField(FLAG.or_null, False),
    "use_embed_proj_bias": ClassField(FLAG, True),
    "use_post_embed_layer_norm": ClassField(FLAG.or_null, False),
    "use_projection_bias_in_attention": ClassField(FLAG.or_null, True),
    "use_ffn_bias_in_attention": ClassField(FLAG.or_null, True),
    "use_ffn_bias": ClassField(FLAG.or_null, True),
    "use_final_layer_norm": ClassField(FLAG, True, since=(2, 3)),
    "use_bias_in_output": ClassField(FLAG, True),
    "use_encoder_pooler_layer": ClassField(FLAG, False),
    "pooler_nonlinearity": ClassField(TEXT.or_null, None, beside=("use_encoder_pooler_layer", True)),
    "use_dinov2_classifier": ClassField(FLAG, False, since=(2, 3), why="its classifier reads all patches"),
    "layerscale_value": ClassField(NUMBER.or_null, None, since=(2, 3), why="its layers have scales of their own"),
    "use_masked_patches": ClassField(FLAG.or_null, False, since=(2, 4), why="it has an embedding for masked patches"),

    "dropout_rate": free(RATE, 0.1, moved=(((2, 4), 0.0),)),
    "attention_dropout_rate": free(RATE, 0.1, moved=(((2, 4), 0.0),)),
    "embedding_dropout_rate": free(RATE, 0.0),
    "attention_softmax_fp32": free(FLAG, True),
    "initializer_range": free(AMOUNT, 0.02),
    "default_initializer": free(ANYTHING, since=(2, 4)),
    "attention_initializer": free(ANYTHING),
    "ffn_initializer": free(ANYTHING, since=(2, 3)),
    "pooler_initializer": free(ANYTHING, since=(2, 3)),
    "projection_initializer": free(ANYTHING),
    "position_embedding_initializer": free(ANYTHING),
    "cls_token_initializer": free(ANYTHING, since=(2, 4)),
    "image_layer_idx": free(WHOLE.or_null, since=(2, 4)),
    "stochastic_depth_drop_prob": free(NUMBER, 0.0, since=(2, 3)),
    "stochastic_depth_drop_prob_schedule": free(TEXT, "linear", since=(2, 3)),
    "stochastic_depth_mode": free(TEXT, "batch", since=(2, 3)),
    "freeze": free(LIST.or_null, since=(2, 4)),
    "compute_eval_metrics": free(FLAG, True, since=(2, 3)),
    "mixed_precision": free(ANYTHING, True, until=(2, 5)),
    "fp16_type": free(TEXT.or_null, "bfloat16", until=(2, 4)),
})  # fmt: skip
