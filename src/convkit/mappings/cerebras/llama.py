"""hf/llama <-> cerebras/llama.

Facts: ModelZoo release 2.10.0, ``tools/checkpoint_converters/llama.py`` (rules of cs-2.1 ... cs-2.9),
``models/nlp/llama/model.py``; transformers, ``models/llama``.
"""

from __future__ import annotations

from convkit.mapping import Part, Rule
from convkit.mappings.cerebras.classes.gpt2 import LLAMA
from convkit.mappings.cerebras.common import FFN, OUT, QKV, Cs, Hf
from convkit.mappings.cerebras.decoder import Bias
from convkit.mappings.cerebras.heads import grouped
from convkit.mappings.cerebras.hf_classes.llama_like import LLAMA_CONFIG
from convkit.mappings.cerebras.llama_like import ACTIVATION, ATTENTION, HALVES, MLP, NORMS, PAIRED, llama_like
from convkit.mappings.cerebras.rope import rope

# fmt: off
HEAD_NORMS = "self_attn.{n:q|k}_norm.weight"

MAPPING = llama_like(
    Hf("llama", ("LlamaModel", "LlamaForCausalLM"), LLAMA_CONFIG, "model.", "embed_tokens.weight",
       conventions=HALVES),
    Cs("llama", "GPT2LMHeadModel configured as LLaMA", LLAMA, PAIRED, ("LlamaModel",),
       {"model.norm_type": "rmsnorm", "model.attention_sliding_window_length": None, "model.moe": None,
        "model.norm_first_sandwich": (None, False)}),
    layer=(
        *ATTENTION, *NORMS, *MLP,
        Rule(HEAD_NORMS, "self_attn.{n}_norm.weight", "(two r) -> (r two)", two=2, optional=True),
    ),
    rows=(
        ACTIVATION, grouped(), rope(),
        Bias("attention_bias", "use_projection_bias_in_attention", "qkv_bias", "self_attn.{n:q|k|v}_proj", QKV),
        Bias("attention_bias", "use_ffn_bias_in_attention", "o_bias", "self_attn.o_proj", OUT),
        Bias("mlp_bias", "use_ffn_bias", "mlp_bias", "mlp.{n:up|gate|down}_proj", FFN),
    ),
    parts=tuple(Part(side, "norms of heads", (HEAD_NORMS,), lack="a model may have no norms of queries and keys")
                for side in ("left", "right")),
)
