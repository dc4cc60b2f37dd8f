"""StarCoder and what was made of it."""

from __future__ import annotations

from typing import Any

from config_deviations.deviation import HEADLESS, PLAIN, TANH_GELU, Deviation, activations

_NAMES = ("starcoder", "octocoder", "sqlcoder", "wizardcoder")
MODELS: dict[str, dict[str, Any]] = {name: {} for name in _NAMES} | {f"{name}-headless": HEADLESS for name in _NAMES}

#: of a StarCoder that the original's authors had
NOISE = dict.fromkeys((
    "validate_runner_input", "use_cache", "transformers_version", "summary_use_proj", "summary_type",
    "inference_runner", "eos_token_id", "bos_token_id", "max_sequence_length", "max_batch_size",
))  # fmt: skip

#: what the two classes have where a config leaves a field out
DEFAULTS: dict[str, Any] = {
    "attention_dropout_rate": 0.1, "dropout_rate": 0.1, "embedding_dropout_rate": 0.1, "filter_size": 3072,
    "hidden_size": 768, "num_heads": 12, "num_hidden_layers": 12, "vocab_size": 50257, "max_position_embeddings": 1024,
    "attn_pdrop": 0.1, "resid_pdrop": 0.1, "n_inner": 3072, "n_embd": 768, "n_head": 12, "n_layer": 12,
}  # fmt: skip
NOT_STARCODER = "the default of transformers' or of ModelZoo's class; the original's is StarCoder's"
BESIDE = "ModelZoo's plain attention has no groups: the parameters beside it say that they were meant"

# fmt: off
DEVIATIONS = (
    *activations("activation_function")[1:], *PLAIN,  # the first is the default: see below
    Deviation("*", "*", NOISE, "says nothing of this model: transformers' defaults, and fields that it doesn't have"),
    Deviation("*", "*", {"nonlinearity": "gelu_new"}, TANH_GELU),
    Deviation("*-headless", "*", {"architectures": ["GPTBigCodeModel"]}, "a base model has no head"),
    *(Deviation("starcoder*", "*", {field: value}, NOT_STARCODER) for field, value in DEFAULTS.items()),
    Deviation("starcoder", "-n_inner", {"filter_size": 96}, "four times n_embd by default"),
    Deviation("starcoder*", "position_embedding_type=null", "accept", "null says nothing"),
    Deviation("starcoder", "back: -n_head", "refuse", "48 heads in a hidden size of 24"),
    Deviation("starcoder", 'cs:*attention_module*', "refuse", BESIDE),
    Deviation("*-headless", "", "accept", "the original finds no class of that name"),
    Deviation("wizardcoder*", "*", {"name": "starcoder"}, "the class that has this layout"),
)
# fmt: on
