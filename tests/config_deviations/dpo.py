"""Models as DPO trains them, beside what their families have."""

from __future__ import annotations

from typing import Any

from config_deviations.deviation import Deviation

MODELS: dict[str, dict[str, Any]] = {"dpo": {}}
#: models that DPO trains; the original refuses others, and there is no mapping of theirs
POLICIES = ("bloom", "codegen", "falcon", "gpt2", "gptj", "gpt-neox", "llama", "mistral", "mixtral", "starcoder")

# fmt: off
DEVIATIONS = (
    Deviation("*", "base", "accept", "2.10's class has the family, or its layout: the original refuses its model_type"),
    Deviation("*", "empty", "accept", "the layout says which model it is, and its class has defaults"),
    Deviation("*", "only-model_type", "accept", "n_embd is 768 by default (a KeyError)"),
    Deviation("*", "cs:-model_name", "accept", "the layout says which model it is"),
    Deviation("*", "cs:rope-only-factor", "accept", "pos_scaling_type is linear by default (a KeyError)"),
    Deviation("*", "cs:trainer-wrapped", "accept", "a training's yaml (a KeyError)"),
)
# fmt: on
