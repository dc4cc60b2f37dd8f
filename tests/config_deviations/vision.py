"""Vision transformers: ViT, and the vision tower of CLIP."""

from __future__ import annotations

from typing import Any

from config_deviations.deviation import LOST_ATTENTION, NO_ACTIVATION, Deviation

MODELS: dict[str, dict[str, Any]] = {"vit": {}, "vit-headless": {"head": False, "pooler": False}, "clip-vit": {}}
#: the class has norm_first
LEFT_OUT: set[str] = set()

NO_GATE = "their feed-forward part has no gate: silu stays silu"
SIZES = "one number for both sides, or [height, width]: the original writes a pair of pairs, which no class takes"
CUT = "patches don't divide the image: ModelZoo's class refuses it"
STRIDE = "encoder_stride is of a decoder that this model hasn't; a conversion's receipt keeps it"
ONE_EPSILON = "the norm after ModelZoo's embedding has 1e-5 whatever the yaml says, transformers' has one for all"
NOT_THEIRS = "transformers' model has a class token, learned positions, norms first and equal heads"
LINEAR = "the class's default: patches are embedded by a linear layer, of another shape"
BIASED = "the class's default: there would be a bias, which transformers' model hasn't"
UNBIASED = "transformers' classifier always has a bias"
POOLED = "transformers' projection reads no pooler"
NO_SUCH_FIELD = "this class has no such field: it is listed"
UNEQUAL = "3 heads in a hidden size of 30 don't stay equal"

# fmt: off
DEVIATIONS = (
    Deviation("*", 'hidden_act="silu"', {"nonlinearity": "silu"}, NO_GATE),
    Deviation("*", 'back: hidden_act="silu"', "refuse", NO_ACTIVATION),
    Deviation("*", '*hidden_act="*glu"', "refuse", NO_ACTIVATION),
    Deviation("*", '*hidden_act="not_an_act"', "refuse", NO_ACTIVATION),
    Deviation("*", "*hidden_act=null", "refuse", NO_ACTIVATION),
    Deviation("*", 'cs:nonlinearity="*glu"', "refuse", NO_ACTIVATION),
    Deviation("*", 'cs:nonlinearity="bogus"', "refuse", NO_ACTIVATION),
    Deviation("vit", "image_size=[[]12, 12]", {"image_size": [12, 12]}, SIZES),
    Deviation("*", "back: image_size=[[]*]", "refuse", SIZES),
    Deviation("clip-vit", "image_size=[[]12, 18]", "refuse", "transformers' CLIP takes squares only"),
    Deviation("*", "*-image_size", "refuse", CUT),
    Deviation("clip-vit", "*-patch_size", "refuse", CUT),
    Deviation("clip-vit", "*patch_size=6", "refuse", CUT),
    Deviation("vit*", "*", {"encoder_stride": None}, STRIDE),
    Deviation("vit", "encoder_stride=16", "accept", STRIDE),
    Deviation("vit", "-encoder_stride", "accept", STRIDE),
    Deviation("*", "cs:position_embedding_type=*", "refuse", NOT_THEIRS),
    Deviation("clip-vit", "cs:prepend_cls_token=false", "refuse", NOT_THEIRS),
    Deviation("*", "cs:*norm_first=false", "refuse", NOT_THEIRS),
    Deviation("*", "cs:mqa-noextra", "refuse", LOST_ATTENTION),
    Deviation("*", "cs:-use_conv_patchified_embedding", "refuse", LINEAR),
    Deviation("vit", "cs:use_bias_in_output=false", "refuse", UNBIASED),
    Deviation("clip-vit", "cs:-use_bias_in_output", "refuse", BIASED),
    Deviation("clip-vit", "cs:-use_embed_proj_bias", "refuse", BIASED),
    Deviation("clip-vit", "cs:use_encoder_pooler_layer=true", "refuse", POOLED),
    Deviation("*", "cs:+mup_base_hidden_size=12", "accept", NO_SUCH_FIELD),
    Deviation("*", "cs:mup2*", "accept", NO_SUCH_FIELD),
    Deviation("*", "cs:+scale_qk_dot_by_d=true", "accept", NO_SUCH_FIELD),
    Deviation("clip-vit", "position_embedding_type=null", "accept", "null says nothing"),
    Deviation("clip-vit", "*layer_norm_eps=1e-12", "refuse", ONE_EPSILON),
    Deviation("clip-vit", "cs:layer_norm_epsilon=2e-05", "refuse", ONE_EPSILON),
    Deviation("clip-vit", "num_labels=*", {"num_classes": 14}, "the projection has projection_dim rows"),
    Deviation("clip-vit", "*projection_dim=0", "refuse", "a projection to nothing"),
    Deviation("clip-vit", "cs:-num_classes", {"projection_dim": 2}, "the class's default"),
    Deviation("clip-vit", "*-num_attention_heads", "refuse", UNEQUAL),
    Deviation("clip-vit", "cs:*num_heads*", "refuse", UNEQUAL),
    Deviation("clip-vit", "cs:hidden_size=31", "refuse", UNEQUAL),
)
# fmt: on
