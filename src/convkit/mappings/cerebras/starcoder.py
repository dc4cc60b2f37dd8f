"""hf/gpt_bigcode <-> cerebras/starcoder: a GPT-2 whose heads may share one key and one value.

StarCoder, and what was made of it: OctoCoder, WizardCoder, SQLCoder. The fused tensor has the queries of a group, its
key and its value, one group after another: one group in all, or one for each head. ModelZoo's converter calls
WizardCoder a gpt2.

Facts: ModelZoo release 2.10.0, ``tools/checkpoint_converters/starcoder.py`` (rules of cs-2.1 ... cs-2.9),
``models/nlp/starcoder``; transformers, ``models/gpt_bigcode``.
"""

from __future__ import annotations

from convkit.config import Field, Name, Written
from convkit.mapping import Derived, Rule
from convkit.mappings.cerebras.classes.gpt2 import STARCODER
from convkit.mappings.cerebras.common import DOWN, OUT, QKV, UP, Cs, Hf, fixed
from convkit.mappings.cerebras.decoder import NORM1, NORM2, decoder
from convkit.mappings.cerebras.gpt2 import REST
from convkit.mappings.cerebras.gpt2 import ROWS as GPT2_ROWS
from convkit.mappings.cerebras.heads import ONE_KEY
from convkit.mappings.cerebras.hf_classes.gpt import GPT_BIGCODE_CONFIG

# fmt: off
LAYER = (
    Rule("attn.c_attn.{p:weight|bias}", f"{QKV}.{{p}}", "(g (q + k + v) r) ... -> (g {qkv} r) ...",
         g="kv_heads", q="queries", k=1, v=1, r="head_dim"),
    Rule("attn.c_proj.{p:weight|bias}", f"{OUT}.{{p}}", "d ... -> d ...", d="hidden"),
    Rule("ln_1.{p:weight|bias}", f"{NORM1}.{{p}}", "d -> d", d="hidden"),
    Rule("ln_2.{p:weight|bias}", f"{NORM2}.{{p}}", "d -> d", d="hidden"),
    Rule("mlp.c_fc.{p:weight|bias}", f"{UP}.{{p}}", "f ... -> f ...", f="filter"),
    Rule("mlp.c_proj.{p:weight|bias}", f"{DOWN}.{{p}}", "d ... -> d ...", d="hidden"),
    Derived("left", "attn.bias", "causal mask", {"n": "positions"}),
    Derived("left", "attn.masked_bias", "constant", {"value": -1e4}),
)
#: what ModelZoo's converter writes of its classes' defaults
STATED = (
    *fixed(position_embedding_type="learned", use_projection_bias_in_attention=True, use_ffn_bias_in_attention=True,
           use_ffn_bias=True),
    Written("right", "loss_scaling", "num_tokens"),
)
ROWS = (
    *GPT2_ROWS, ONE_KEY, Name("queries", lambda names: names["heads"] // names["kv_heads"]),
    Field("attention_softmax_in_fp32", "attention_softmax_fp32"),
    *STATED,
)

MAPPING = decoder(
    Hf("gpt_bigcode", ("GPTBigCodeModel", "GPTBigCodeForCausalLM"), GPT_BIGCODE_CONFIG, "transformer.", "wte.weight",
       conventions={"qkv": "fused by group of keys"}),
    Cs("starcoder", "GPT2LMHeadModel configured as StarCoder", STARCODER, {"qkv": "apart"}, ("StarCoderModel",),
       unnamed={"model.attention_module": "multiquery_attention", "model.attention_softmax_fp32": (True, False)},
       called=({"model.name": "gpt2", "model.attention_module": "multiquery_attention"},)),
    "h.{i}.", LAYER, rows=ROWS, rest=REST,
)
