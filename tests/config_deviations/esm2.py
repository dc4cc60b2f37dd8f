"""ESM-2."""

from __future__ import annotations

from typing import Any

from config_deviations.deviation import LOST_ATTENTION, ROTARY, Deviation

MODELS: dict[str, dict[str, Any]] = {"esm-2": {"mlm": True, "head": False}}

NO_PADDING = "2.10's class takes no null; without an id, the class's default is taken, which rotary models don't use"
SCALED = "transformers' ESM has no scaled rotation: the original drops it"

# fmt: off
DEVIATIONS = (
    Deviation("*", "back: *", {"model_type": "esm"}, "the original makes a BERT of it"),
    Deviation("*", "cs:*", {"model_type": "esm"}, "the original makes a BERT of it"),
    Deviation("*", "*", {"freeze_ffn_bias_in_glu": None}, "the field came with release 2.3", "cs-2.[12]"),
    Deviation("*", "emb_layer_norm_before=null", {"embedding_layer_norm": False}, "2.10's class takes no null"),
    Deviation("*", "back: emb_layer_norm_before=null", "refuse", "2.10's class takes no null"),
    Deviation("*", "is_folding_model=true", "refuse", "it folds proteins, for which ModelZoo has no class"),
    Deviation("*", "pad_token_id=null", {"pad_token_id": None}, NO_PADDING),
    Deviation("*", "back: pad_token_id=null", "refuse", NO_PADDING),
    Deviation("*", "-pad_token_id", {"pad_token_id": None}, NO_PADDING),
    Deviation("*", "back: -pad_token_id", "refuse", NO_PADDING),
    Deviation("*", "cs:-max_position_embeddings", "refuse",
              "BertModelConfig has no default, and transformers' 1026 needn't be the table's length"),
    Deviation("*", "cs:+norm_first=false", "refuse", "norms behind the parts they belong to: another model"),
    Deviation("*", "cs:+pos_scaling_factor=2.0", "refuse", SCALED),
    Deviation("*", "cs:rope-*", "refuse", SCALED),
    Deviation("*", "*hidden_size=36", "refuse", ROTARY),
    Deviation("*", "cs:mqa-noextra", "refuse", LOST_ATTENTION),
)
# fmt: on
