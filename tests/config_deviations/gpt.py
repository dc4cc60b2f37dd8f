"""GPT-2, GPT-J and CodeGen."""

from __future__ import annotations

from typing import Any

from config_deviations.deviation import GPTJ_CLASS, HEADLESS, PLAIN, Deviation, activations

MODELS: dict[str, dict[str, Any]] = {
    "gpt2": {},
    "gpt2-headless": HEADLESS,
    "gptj": {},
    "gptj-headless": HEADLESS,
    "codegen": {},
    "codegen-headless": HEADLESS,
}

NO_DROPOUT = "transformers' default is no dropout; the original's is 0.1"
DROPOUTS = dict.fromkeys(("attention_dropout_rate", "embedding_dropout_rate", "residual_dropout_rate"), 0.0)
SCALED = "transformers' GPT-J and CodeGen know no scaled rotation: the original drops it"

# fmt: off
DEVIATIONS = (
    *activations("activation_function"), *PLAIN, *GPTJ_CLASS,
    Deviation("gpt2*", "position_embedding_type=null", "accept", "null says nothing"),
    Deviation("codegen*", "position_embedding_type=null", "accept", "null says nothing"),
    Deviation("gptj", "cs:mup22", "refuse", "the GPT-J class has no output_logits_scale"),
    Deviation("gptj*", "only-model_type", DROPOUTS, NO_DROPOUT),
    Deviation("gptj*", "empty", DROPOUTS, NO_DROPOUT),
    Deviation("gptj", "-attn_pdrop", {"attention_dropout_rate": 0.0}, NO_DROPOUT),
    Deviation("gptj", "-embd_pdrop", {"embedding_dropout_rate": 0.0}, NO_DROPOUT),
    Deviation("gptj", "-resid_pdrop", {"residual_dropout_rate": 0.0}, NO_DROPOUT),
    Deviation("gptj", "*rotary_dim=null", "refuse", "transformers would rotate n_embd dimensions of a head"),
    Deviation("gptj", "*-n_head", "refuse", "16 heads in a hidden size of 24: see rotary_dim"),
    Deviation("gptj", "cs:-num_heads", "refuse", "12 heads in a hidden size of 24, with 4 rotated dimensions each"),
    Deviation("*", "cs:hidden_size=25", "refuse", "4 heads don't share 25 out: neither model can be built"),
    Deviation("*", "cs:num_heads=5", "refuse", "5 heads don't share 24 out: neither model can be built"),
    Deviation("*", "cs:+pos_scaling_factor=2.0", "refuse", SCALED),
    Deviation("*", "cs:rope-only-factor", "refuse", SCALED),
    Deviation("*", "cs:rope-llama3", "refuse", SCALED),
    Deviation("codegen", "cs:*use_bias_in_output*", "accept", "a head without bias, as GPT-J may have it too"),
    Deviation("gpt2-headless", "only-model_type", "accept", "n_embd is 768 by default (a KeyError)"),
    Deviation("gpt2-headless", "empty", "accept", "n_embd is 768 by default (a KeyError)"),
)
# fmt: on
