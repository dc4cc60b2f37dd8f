"""GPT-NeoX."""

from __future__ import annotations

from typing import Any

from config_deviations.deviation import GPTJ_CLASS, HEADLESS, PLAIN, ROTARY, YARN, Deviation, activations

MODELS: dict[str, dict[str, Any]] = {"gpt-neox": {}, "gpt-neox-headless": HEADLESS}

# fmt: off
DEVIATIONS = (
    *activations("hidden_act"), *PLAIN, *GPTJ_CLASS,
    Deviation("gpt-neox", 'rope_scaling={*linear*', {"pos_scaling_type": None},
              "the field came with 2.3: until then every scaling is linear", "cs-2.[12]"),
    Deviation("*", 'rope_scaling={"rope_type": *', "accept", "today's spelling of type (a KeyError)"),
    Deviation("*", 'rope_scaling={*"attention_factor": 1.2*', {"pos_scaling_extra_args": YARN},
              "the original loses attention_factor, which ModelZoo can say: mscale_a, mscale_b"),
    Deviation("gpt-neox", "rope_theta=500000.0", "refuse", "rotary_emb_base says something else"),
    Deviation("gpt-neox", "rotary_pct=0.*", "refuse", "partial_rotary_factor says something else"),
    Deviation("gpt-neox", "back: *rotary_pct*", "refuse", ROTARY),
    Deviation("gpt-neox", "-rotary_pct", {"rotary_dim": 2}, "partial_rotary_factor is there"),
    Deviation("gpt-neox", "cs:rotary_dim=3", "refuse", ROTARY),
    Deviation("*", "attention_bias=false",
              {"use_projection_bias_in_attention": False, "use_ffn_bias_in_attention": False},
              "transformers' model has no biases then; the original names some that the checkpoint lacks"),
    Deviation("gpt-neox", "-num_attention_heads", "refuse", "64 heads in a hidden size of 24"),
    Deviation("gpt-neox", "cs:-hidden_size", "accept", "768 by default (a KeyError)"),
    Deviation("gpt-neox", "cs:-num_heads", "accept", "12 by default (a KeyError)"),
    Deviation("gpt-neox-headless", "scale_attn_weights=false", "accept", "GPT-NeoX has no such field: it is listed"),
)
# fmt: on
