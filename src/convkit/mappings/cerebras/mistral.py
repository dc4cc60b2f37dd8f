"""hf/mistral <-> cerebras/mistral: a LLaMA without biases, whose layers may see a window only.

Facts: ModelZoo release 2.10.0, ``tools/checkpoint_converters/mistral.py`` (rules of cs-2.1 ... cs-2.9),
``models/nlp/mistral``; transformers, ``models/mistral``.
"""

from __future__ import annotations

from convkit.config import Field
from convkit.mappings.cerebras.classes.gpt2 import MISTRAL
from convkit.mappings.cerebras.common import Cs, Hf
from convkit.mappings.cerebras.heads import grouped
from convkit.mappings.cerebras.hf_classes.llama_like import MISTRAL_CONFIG
from convkit.mappings.cerebras.llama_like import (
    ACTIVATION,
    ATTENTION,
    HALVES,
    MLP,
    NO_BIASES,
    NORMS,
    PAIRED,
    llama_like,
    without_biases,
)  # fmt: skip
from convkit.mappings.cerebras.rope import rope

# fmt: off
WINDOW = Field("sliding_window", "attention_sliding_window_length")

MAPPING = llama_like(
    Hf("mistral", ("MistralModel", "MistralForCausalLM"), MISTRAL_CONFIG, "model.", "embed_tokens.weight",
       conventions=HALVES),
    Cs("mistral", "GPT2LMHeadModel configured as Mistral", MISTRAL, PAIRED, ("MistralModel",)),
    layer=(*without_biases(ATTENTION), *NORMS, *without_biases(MLP)),
    rows=(ACTIVATION, *NO_BIASES, grouped(8), rope(), WINDOW),
)
