"""hf/gemma2 <-> cerebras/gemma2: a LLaMA with norms around both parts of a layer, and windows on every other layer.

The scales of transformers' norms are stored minus one. Its embeddings are scaled by the root of the hidden size, its
scores by a number of their own.

Facts: ModelZoo release 2.10.0, ``tools/checkpoint_converters/gemma2.py`` (rules of cs-2.3 ... cs-2.9),
``models/nlp/gemma2``; transformers, ``models/gemma2``.
"""

from __future__ import annotations

import math

from convkit.config import Field
from convkit.mapping import Rule
from convkit.mapping.ops import Shift
from convkit.mappings.cerebras.classes.gpt2 import GEMMA2
from convkit.mappings.cerebras.common import GATED, OUT, QKV, Cs, Hf, fixed
from convkit.mappings.cerebras.decoder import NORM1, NORM2, Bias
from convkit.mappings.cerebras.heads import grouped, whole_heads
from convkit.mappings.cerebras.hf_classes.gemma2 import GEMMA2_CONFIG
from convkit.mappings.cerebras.llama_like import ATTENTION, MLP, PAIRED, llama_like, without_biases
from convkit.mappings.cerebras.mup import Scales
from convkit.mappings.cerebras.roots import ROOT, query_scale
from convkit.mappings.cerebras.rope import rope
from convkit.mappings.cerebras.windows import windows

# fmt: off
MINUS_ONE = (Shift(1.0),)
NORMS = {"input_layernorm": NORM1, "post_attention_layernorm": f"{NORM1}_post",
         "pre_feedforward_layernorm": NORM2, "post_feedforward_layernorm": f"{NORM2}_post"}


MAPPING = llama_like(
    Hf("gemma2", ("Gemma2Model", "Gemma2ForCausalLM"), GEMMA2_CONFIG, "model.", "embed_tokens.weight",
       conventions={"rotary": "half", "norm_scale": "minus one", "gate": "gate_proj"}),
    Cs("gemma2", "GPT2LMHeadModel configured as Gemma 2", GEMMA2, PAIRED, ("Gemma2Model",),
       {"model.norm_first_sandwich": True}, since=(2, 3)),
    layer=(
        *ATTENTION, *without_biases(MLP),
        *(Rule(f"{hf}.weight", f"{cs}.weight", "d -> d", d="hidden", ops=MINUS_ONE) for hf, cs in NORMS.items()),
    ),
    heads=whole_heads(256),
    norm_ops=MINUS_ONE,
    rows=(
        Field("hidden_activation", "nonlinearity", "act", values=GATED),
        Field("final_logit_softcapping", "final_logit_softcapping"),
        Field("attn_logit_softcapping", "attention_logit_softcapping"),
        Bias("attention_bias", "use_projection_bias_in_attention", "qkv_bias", "self_attn.{n:q|k|v}_proj", QKV),
        Bias("attention_bias", "use_ffn_bias_in_attention", "o_bias", "self_attn.o_proj", OUT),
        *fixed(norm_first_sandwich=True, use_ffn_bias=False), grouped(4), rope(), windows(4096), ROOT,
        *query_scale(256),
    ),
    scales=Scales(GEMMA2, own=lambda names: math.sqrt(names["hidden"])),
)
