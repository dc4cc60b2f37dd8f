"""hf/mixtral <-> cerebras/mixtral: a Mistral whose feed-forward parts are experts, of which a router chooses some.

Facts: ModelZoo release 2.10.0, ``tools/checkpoint_converters/mixtral.py`` (rules of cs-2.3 ... cs-2.9),
``models/nlp/mixtral``; transformers, ``models/mixtral``.
"""

from __future__ import annotations

from convkit.mapping import Rule
from convkit.mappings.cerebras.classes.gpt2 import MIXTRAL
from convkit.mappings.cerebras.common import Cs, Hf
from convkit.mappings.cerebras.experts import EXPERTS
from convkit.mappings.cerebras.heads import grouped
from convkit.mappings.cerebras.hf_classes.llama_like import MIXTRAL_CONFIG
from convkit.mappings.cerebras.llama_like import ACTIVATION, ATTENTION, NO_BIASES, NORMS, llama_like, without_biases
from convkit.mappings.cerebras.mistral import WINDOW
from convkit.mappings.cerebras.rope import rope

# fmt: off
EXPERT = "block_sparse_moe.experts.{e}"
UP, GATE, DOWN = (f"ffn.experts.fused_ffns.{module}" for module in (
    "0.linear_layer", "0.linear_layer_for_glu", "1.linear_layer"))
LAYER = (
    *without_biases(ATTENTION), *NORMS,
    Rule("block_sparse_moe.gate.weight", "ffn.gate.weight", "e d -> e d", e="experts", d="hidden"),
    Rule(f"{EXPERT}.w1.weight", f"{GATE}.expert_weights", "e f d -> f e d", e="experts", f="filter", d="hidden"),
    Rule(f"{EXPERT}.w3.weight", f"{UP}.expert_weights", "e f d -> f e d", e="experts", f="filter", d="hidden"),
    Rule(f"{EXPERT}.w2.weight", f"{DOWN}.expert_weights", "e d f -> d e f", e="experts", d="hidden", f="filter"),
)

MAPPING = llama_like(
    Hf("mixtral", ("MixtralModel", "MixtralForCausalLM"), MIXTRAL_CONFIG, "model.", "embed_tokens.weight",
       conventions={"rotary": "half", "norm_scale": "direct", "experts": "apart"}),
    Cs("mixtral", "GPT2LMHeadModel configured as Mixtral", MIXTRAL,
       {"rotary": "interleaved", "norm_scale": "direct", "experts": "stacked"}, ("MixtralModel",), since=(2, 3)),
    layer=LAYER,
    rows=(ACTIVATION, *NO_BIASES, grouped(8), rope(1e6), WINDOW, EXPERTS),
)
