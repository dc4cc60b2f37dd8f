"""Bloom."""

from __future__ import annotations

from typing import Any

from config_deviations.deviation import HEADLESS, PLAIN, Deviation

MODELS: dict[str, dict[str, Any]] = {"bloom": {}, "bloom-headless": HEADLESS}

SCALED = "transformers' slopes can't be scaled: the original drops the factor"

# fmt: off
DEVIATIONS = (
    *PLAIN,
    Deviation("bloom", "position_embedding_type=null", "accept", "null says nothing"),
    Deviation("bloom", "cs:-filter_size", "refuse", "3072 by default; a Bloom has four times the hidden size, 24"),
    Deviation("bloom", "cs:-position_embedding_type", "refuse", "learned by default"),
    Deviation("bloom", "cs:+use_rms_norm=true", "accept", "no release since 2.1 reads it: it is listed"),
    Deviation("bloom", "cs:+pos_scaling_factor=2.0", "refuse", SCALED),
    Deviation("bloom", "cs:rope-*", "refuse", SCALED),
)
# fmt: on
