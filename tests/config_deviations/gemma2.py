"""Gemma 2."""

from __future__ import annotations

import math
from typing import Any

from config_deviations.deviation import Deviation

MODELS: dict[str, dict[str, Any]] = {"gemma2": {}}

DEFAULT = "the default of transformers' class"
NO_WINDOW = "neither ModelZoo nor transformers runs layers with a window of no length"
WHOLE = "transformers takes whole numbers only"
KINDS = "transformers says by layer_types which layers have the window"

# fmt: off
DEVIATIONS = (
    Deviation("*", "rope_scaling={*", "refuse", "the original drops every scaling, also one that ModelZoo lacks"),
    Deviation("*", "*sliding_window=null", "refuse", NO_WINDOW),
    Deviation("*", "cs:-attention_sliding_window_length", "refuse", NO_WINDOW),
    Deviation("*", "cs:*sliding_window_every_other_decoder_layer*", "accept", KINDS),
    Deviation("*", "position_embedding_type=null", "accept", "null says nothing"),
    Deviation("*", "cs:mup22*", "accept", "the original refuses every muP of Gemma 2"),
    Deviation("*", "back: query_pre_attn_scalar=8", {"query_pre_attn_scalar": 8}, WHOLE),
    Deviation("*", "back: query_pre_attn_scalar=256", {"query_pre_attn_scalar": 256}, WHOLE),
    Deviation("*", "back: -query_pre_attn_scalar", {"query_pre_attn_scalar": 224}, WHOLE),
    Deviation("*", "-query_pre_attn_scalar", {"attention_logits_alpha": math.sqrt(6 / 256)}, DEFAULT),
    Deviation("*", "*", {"hidden_size": 2304}, DEFAULT),
    Deviation("*", "*", {"embeddings_scale": 48.0}, DEFAULT),
    Deviation("*", "*", {"filter_size": 9216}, DEFAULT),
    Deviation("*", "*", {"num_heads": 8}, DEFAULT),
    Deviation("*", "-num_attention_heads", {"attention_inner_dim": 48}, DEFAULT),
    Deviation("*", "-num_key_value_heads", "accept", "4 by default; the original takes 16, of 4 heads"),
    Deviation("*", "*", {"rope_theta": None}, "10000 is the default of both sides, so it stays unsaid"),
    Deviation("*", "cs:-attention_dropout_rate", {"attention_dropout": 0.1}, "ModelZoo's default since 2.4"),
    Deviation("*", "cs:-dropout_rate", "accept", "a trained model has no dropout"),
    Deviation("*", "cs:+fixed_sparse_attention=*", "refuse", "a pattern of attention, which the original drops"),
)
# fmt: on
