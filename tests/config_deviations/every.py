"""Deviations of every family."""

from __future__ import annotations

from config_deviations.deviation import LOST_ATTENTION, ROTARY, Deviation

MUP = "muP without mup_base_*: the original drops the factor in silence, and the model computes something else"
ONE_BASE = "one base size of muP without the other, which the classes refuse since 2.4"
UNEQUAL = "4 heads don't share 25 out, nor 5 heads 24: neither model can be built"
OF_T5 = "fields of another class, which have no effect in this one: they are listed"
OTHER_NAME = "the yaml says that it is another model"

# fmt: off
DEVIATIONS = (
    Deviation("*", "cs:hidden_size=25", "refuse", UNEQUAL),
    Deviation("*", "cs:num_heads=5", "refuse", UNEQUAL),
    Deviation("*", 'cs:name="other"', "refuse", OTHER_NAME),
    Deviation("*", "cs:+attention_sliding_window_length=8", "refuse", "a Mistral: the original drops the window"),
    Deviation("*", "cs:+moe_params=*", "refuse", "a mixture of experts: the original drops it"),
    Deviation("*", "cs:gqa3", "refuse", LOST_ATTENTION),
    Deviation("*", "cs:+mup_base_hidden_size=12", "refuse", ONE_BASE),
    Deviation("*", "cs:mup23", "refuse", ONE_BASE),
    Deviation("*", "cs:mup-t5", "accept", OF_T5),
    Deviation("*", "cs:mup-t5", {"tie_word_embeddings": True}, OF_T5),
    Deviation("*", "cs:+embeddings_scale=3.0", "refuse", MUP),
    Deviation("*", "cs:+attention_logits_alpha=1.5", "refuse", MUP),
    Deviation("*", "*-rotary_dim", "refuse", ROTARY),
    Deviation("*", "cs:rotary_dim=5", "refuse", ROTARY),
    Deviation("*-headless", "*", {"use_bias_in_output": False}, "a base model has no head, and no bias of one"),
)
# fmt: on
