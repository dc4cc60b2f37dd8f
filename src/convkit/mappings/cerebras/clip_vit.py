"""hf/clip_vision_model <-> cerebras/clip-vit: the vision tower of a CLIP, whose projection is ModelZoo's classifier.

Facts: ModelZoo release 2.10.0, ``tools/checkpoint_converters/clip_vit.py`` (rules of cs-2.1 ... cs-2.9),
``layers/ViTEmbeddingLayer.py`` (the epsilon of the norm after the embedding is 1e-5 whatever the yaml says);
transformers, ``models/clip``: the base model's keys have the prefix, or since release 5 none.
"""

from __future__ import annotations

from typing import Any

from convkit.config import Answer, ConfigError, Coupled, Field, Written
from convkit.mapping import Derived, Rule
from convkit.mappings.cerebras import vision as mz
from convkit.mappings.cerebras.classes.vit import VISION_TRANSFORMER
from convkit.mappings.cerebras.common import DOWN, OUT, UP, Cs, Hf, K, Q, V, fixed
from convkit.mappings.cerebras.hf_classes.vision import CLIP_VISION_CONFIG
from convkit.mappings.cerebras.vision import norm, patches, positions, sizes, vision

Values = dict[str, Any]
#: of ModelZoo's norm after the embedding
EPSILON = 1e-5


def _epsilon(here: str, there: str) -> Any:
    def convert(values: Values, names: Values) -> Answer:
        eps = values.get(here, EPSILON)
        if eps != EPSILON:
            remedy = (
                "the norm after ModelZoo's embedding has 1e-5 whatever the yaml says, and transformers has one for all"
            )
            raise ConfigError(f"is {eps}", key=here, remedy=remedy)
        return Answer({there: eps}, {"eps": eps}, defaults={} if here in values else {here: eps})

    return convert


# fmt: off
LAYER = (
    Rule("self_attn.q_proj.{p:weight|bias}", f"{Q}.{{p}}", "o ... -> o ...", o="hidden"),
    Rule("self_attn.k_proj.{p:weight|bias}", f"{K}.{{p}}", "o ... -> o ...", o="hidden"),
    Rule("self_attn.v_proj.{p:weight|bias}", f"{V}.{{p}}", "o ... -> o ...", o="hidden"),
    Rule("self_attn.out_proj.{p:weight|bias}", f"{OUT}.{{p}}", "o ... -> o ...", o="hidden"),
    Rule("mlp.fc1.{p:weight|bias}", f"{UP}.{{p}}", "f ... -> f ...", f="filter"),
    Rule("mlp.fc2.{p:weight|bias}", f"{DOWN}.{{p}}", "d ... -> d ...", d="hidden"),
    norm("layer_norm1", mz.NORM1), norm("layer_norm2", mz.NORM2),
)

MAPPING = vision(
    Hf("clip_vision_model", ("CLIPVisionModel", "CLIPVisionModelWithProjection"), CLIP_VISION_CONFIG, "vision_model.",
       "embeddings.class_embedding", "visual_projection", {"class_token": "first"}),
    Cs("clip-vit", "VisionTransformerModel configured as CLIP's", VISION_TRANSFORMER, {"class_token": "last"},
       yaml="vision_transformer", fields={"model.use_post_embed_layer_norm": True}, unnamed={}),
    "encoder.layers.{i}.", LAYER,
    rest=(
        Rule("{=hf}embeddings.class_embedding", mz.CLASS_TOKEN, "d -> d", d="hidden"),
        positions("{=hf}embeddings.position_embedding.weight"),
        *patches("{=hf}embeddings.patch_embedding", "weight"),
        norm("{=hf}pre_layrnorm", f"{mz.EMBEDDING}post_embed_ln"),
        norm("{=hf}post_layernorm", f"{mz.ENCODER}norm"),
        Rule("visual_projection.weight", f"{mz.HEAD}.weight", "c d -> c d", c="labels", d="hidden", when="!headless"),
        Derived("left", "{=hf}embeddings.position_ids", "positions", {"n": "positions"}),
    ),
    rows=(
        Coupled(("layer_norm_eps",), ("layer_norm_epsilon",), _epsilon("layer_norm_eps", "layer_norm_epsilon"),
                _epsilon("layer_norm_epsilon", "layer_norm_eps")),
        Field("attention_dropout", "attention_dropout_rate", null=0.0),
        Field("projection_dim", "num_classes", "labels", measured="labels"),
        sizes(224, 32, square=True),
        Written("right", "dropout_rate", 0.0),
        *fixed(use_bias_in_output=False, use_embed_proj_bias=False, use_post_embed_layer_norm=True,
               use_encoder_pooler_layer=False, use_projection_bias_in_attention=True),
    ),
)
