"""RoBERTa."""

from __future__ import annotations

from typing import Any

from config_deviations.deviation import LOST_ATTENTION, NO_ACTIVATION, Deviation, activations

MODELS: dict[str, dict[str, Any]] = {"roberta": {"mlm": True, "head": False}}

# fmt: off
DEVIATIONS = (
    *activations("hidden_act", "encoder_nonlinearity"),
    Deviation("*", 'cs:encoder_nonlinearity="geglu"', "refuse", NO_ACTIVATION),
    Deviation("*", 'cs:encoder_nonlinearity="bogus"', "refuse", NO_ACTIVATION),
    Deviation("*", "cs:mqa-noextra", "refuse", LOST_ATTENTION),
    Deviation("*", "cs:-max_position_embeddings", "refuse",
              "BertModelConfig has no default, and transformers' 512 needn't be the table's length"),
    Deviation("*", "cs:-num_segments", "refuse",
              "without it the class has no table of segments (without the next sentence): the original makes up one"),
    Deviation("*", "cs:-pooler_nonlinearity", "accept", "this model has no pooler, so its activation doesn't matter"),
)
# fmt: on
