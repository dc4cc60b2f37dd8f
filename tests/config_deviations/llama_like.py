"""LLaMA, Mistral and Mixtral."""

from __future__ import annotations

import math
from typing import Any

from config_deviations.deviation import HEADLESS, YARN, Deviation

MODELS: dict[str, dict[str, Any]] = {
    "llama": {},
    "llama-headless": HEADLESS,
    "mistral": {},
    "mistral-headless": HEADLESS,
    "mixtral": {},
    "mixtral-headless": HEADLESS,
}

NO_SUCH_SCALING = "releases 2.1 and 2.2 compute linear scaling only (yarn, llama3: 2.3.1; longrope: 2.4)"
NOT_LLAMA = "the default of transformers' class; the original's is LLaMA's"
DENSE = "the original's yaml has no experts, though the checkpoint has eight"
LONG = {
    "rope_type": "longrope",
    "short_factor": [1.0, 1.0, 1.0],
    "long_factor": [2.0, 2.0, 2.0],
    "original_max_position_embeddings": 16,
}
FACTOR = {"attention_factor": math.sqrt(1 + math.log(2.0) / math.log(16))}
BACK = {"type": "longrope", "factor": 2.0, "attention_factor": math.sqrt(1 + math.log(20 / 16) / math.log(16))}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0} | {
    "low_freq_factor": 1,
    "high_freq_factor": 4,
    "original_max_position_embeddings": 8192,
}

# fmt: off
DEVIATIONS = (
    Deviation("*", 'rope_scaling={"rope_type": "default"}', "accept", "transformers' own way to say: no scaling"),
    Deviation("*", 'rope_scaling={*yarn*', "refuse", NO_SUCH_SCALING, "cs-2.1"),
    Deviation("*", 'rope_scaling={*llama3*', "refuse", NO_SUCH_SCALING, "cs-2.1"),
    Deviation("*", 'rope_scaling={*longrope*', "refuse", NO_SUCH_SCALING, "cs-2.[13]"),
    Deviation("*", 'rope_scaling={*"attention_factor": 1.2*', {"pos_scaling_extra_args": YARN},
              "the original loses attention_factor, which ModelZoo can say: mscale_a, mscale_b"),
    Deviation("*", 'rope_scaling={*longrope*', {"pos_scaling_extra_args": LONG | FACTOR},
              "ModelZoo reckons attention from the lengths, transformers from factor: where they differ, it is said"),
    Deviation("*", 'back: rope_scaling={*longrope*', {"rope_scaling": LONG | BACK},
              "the same on the way back"),
    Deviation("*", 'rope_scaling={"rope_type": "llama3", "factor": 8.0}', "refuse",
              "transformers requires low_freq_factor and high_freq_factor"),
    Deviation("*", 'back: rope_scaling={"rope_type": "llama3", "factor": 8.0}', {"rope_scaling": LLAMA3},
              "ModelZoo's defaults are written: transformers has none"),
    Deviation("*", 'rope_scaling={*linear*', {"pos_scaling_type": None},
              "the field came with 2.3: until then every scaling is linear", "cs-2.[12]"),
    Deviation("*", "cs:pos_scaling_factor=2.0", "accept", "pos_scaling_type is linear by default (a KeyError)"),
    Deviation("*", "num_key_value_heads=null", "accept", "as many as heads, by default (a TypeError)"),
    Deviation("*", "head_dim=8", {"rotary_dim": 8},
              "the original ignores head_dim, ModelZoo has attention_inner_dim"),
    Deviation("llama", "hidden_size=36", {"rotary_dim": 6}, "an explicit head_dim counts: see head_dim=8"),
    Deviation("llama", "-hidden_size", {"rotary_dim": 6}, "an explicit head_dim counts: see head_dim=8"),
    Deviation("llama", "-num_attention_heads", {"rotary_dim": 6}, "an explicit head_dim counts: see head_dim=8"),
    Deviation("llama", "back: -num_attention_heads", "refuse", "32 heads in a hidden size of 24: rotary_dim is 0"),
    Deviation("*", "attention_dropout=0.1", {"attention_dropout_rate": 0.1},
              "transformers' llama drops attention too"),
    Deviation("*", "cs:attention_dropout_rate=0.1", "accept", "transformers' llama drops attention too"),
    Deviation("llama", "cs:use_ffn_bias=true", "accept", "transformers says it by mlp_bias"),
    Deviation("llama", "cs:-use_ffn_bias", "accept", "transformers says it by mlp_bias"),
    Deviation("*", 'hidden_act="gelu_*"', "accept", "a declared deviation: ModelZoo's geglu is the exact GELU"),
    Deviation("*", "position_embedding_type=null", "accept", "null says nothing"),
    Deviation("mi*", "*", {"filter_size": 14336}, NOT_LLAMA),
    Deviation("mi*", "*", {"max_position_embeddings": 131072}, NOT_LLAMA),
    Deviation("mixtral*", "*", {"layer_norm_epsilon": 1e-5}, NOT_LLAMA),
    Deviation("mistral", "-num_key_value_heads", "refuse", "4 heads aren't shared out over 8 groups, the default"),
    Deviation("mistral", "*-num_attention_heads", "refuse", "32 heads in a hidden size of 24"),
    Deviation("mi*", "hidden_size=36", "refuse", "heads of size 9, of which no framework makes pairs"),
    Deviation("mistral", "*", "refuse", "ModelZoo has windows since 2.2: 2.1 would see the whole text", "cs-2.1"),
    Deviation("mistral", "sliding_window=null", {"attention_sliding_window_length": None},
              "the field came with 2.2: until then there is no window", "cs-2.1"),
    Deviation("mixtral", 'cs:attention_sliding_window_length="bogus"', "refuse", "no length"),
    Deviation("mi*", "cs:rope-only-factor", "accept", "pos_scaling_type is linear by default (a KeyError)"),
    Deviation("mixtral", "rope_parameters=*", {"rope_theta": 10000.0}, "the original knows rope_theta only"),
    Deviation("mistral-headless", "back: *", {"architectures": ["MistralModel"]},
              "the original names the class with the head that the checkpoint lacks"),
    Deviation("mixtral*", "back: only-model_type", "refuse", DENSE),
    Deviation("mixtral*", "back: empty", "refuse", DENSE),
    Deviation("mixtral", "back: -num_local_experts", "refuse", DENSE),
    Deviation("mixtral", "-router_aux_loss_coef", "accept", "0.001 by default (a KeyError)"),
    Deviation("mixtral-headless", "", "accept", "the original refuses its own name for it"),
)
# fmt: on
