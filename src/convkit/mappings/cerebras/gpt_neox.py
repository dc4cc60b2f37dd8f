"""hf/gpt_neox <-> cerebras/gpt-neox: attention and feed-forward part side by side, each behind its own norm.

The first dimensions of each head are rotated: halves in transformers, pairs in ModelZoo.

Facts: ModelZoo release 2.10.0, ``tools/checkpoint_converters/gpt_neox_hf_cs.py`` (rules of cs-2.1 ... cs-2.9),
``models/nlp/gptj``; transformers, ``models/gpt_neox``; up to release 4.32 it saved the causal mask, its fill value and
the inverse frequencies as buffers.
"""

from __future__ import annotations

from convkit.config import Field, Row
from convkit.mapping import Derived, Rule
from convkit.mappings.cerebras.classes.gptj import GPT_NEOX
from convkit.mappings.cerebras.common import ACTIVATIONS, DOWN, OUT, QKV, UP, Cs, Hf, fixed
from convkit.mappings.cerebras.decoder import NORM1, NORM2, SIZES, Bias, decoder, final_norm
from convkit.mappings.cerebras.heads import PARTLY_ROTATED
from convkit.mappings.cerebras.hf_classes.gpt_neox import GPT_NEOX_CONFIG
from convkit.mappings.cerebras.rope import GPTJ_SCALINGS, rope

# fmt: off
LAYER = (
    Rule("attention.query_key_value.{p:weight|bias?}", f"{QKV}.{{p}}",
         "(h (two r + a + two s + b + v)) ... -> q: (h (r two + a)) ... | k: (h (s two + b)) ... | v: (h v) ...",
         h="heads", two=2, r="half", s="half", a="rest", b="rest", v="head_dim"),
    Rule("attention.dense.{p:weight|bias?}", f"{OUT}.{{p}}", "d ... -> d ...", d="hidden"),
    Rule("input_layernorm.{p:weight|bias}", f"{NORM1}.{{p}}", "d -> d", d="hidden"),
    Rule("post_attention_layernorm.{p:weight|bias}", f"{NORM2}.{{p}}", "d -> d", d="hidden"),
    Rule("mlp.dense_h_to_4h.{p:weight|bias}", f"{UP}.{{p}}", "f ... -> f ...", f="filter"),
    Rule("mlp.dense_4h_to_h.{p:weight|bias}", f"{DOWN}.{{p}}", "d ... -> d ...", d="hidden"),
    Derived("left", "attention.bias", "causal mask", {"n": "positions"}),
    Derived("left", "attention.masked_bias", "constant", {"value": -1e9}),
    Derived("left", "attention.rotary_emb.inv_freq", "inverse frequencies",
            {"theta": "rope_theta", "dim": "rotary_dim"}),
)
ROWS: tuple[Row | Bias, ...] = (
    *SIZES,
    Field("intermediate_size", "filter_size", "filter"),
    Field("hidden_act", "nonlinearity", "act", values=ACTIVATIONS),
    Field("layer_norm_eps", "layer_norm_epsilon", "eps"),
    Field("hidden_dropout", "residual_dropout_rate"),
    Field("attention_dropout", "attention_dropout_rate"),
    *PARTLY_ROTATED, rope(base="rotary_emb_base", whole=False, scalings=GPTJ_SCALINGS),
    Bias("attention_bias", "use_projection_bias_in_attention", "qkv_bias", "attention.query_key_value", QKV),
    Bias("attention_bias", "use_ffn_bias_in_attention", "o_bias", "attention.dense", OUT),
    *fixed(attention_type="scaled_dot_product", use_ffn_bias=True, use_untied_layer_norm=True, use_bias_in_output=False,
           embedding_dropout_rate=0.0),
)

MAPPING = decoder(
    Hf("gpt_neox", ("GPTNeoXModel", "GPTNeoXForCausalLM"), GPT_NEOX_CONFIG, "gpt_neox.", "embed_in.weight", "embed_out",
       conventions={"rotary": "half", "qkv": "fused by head"}),
    Cs("gpt-neox", "GPTNeoXModel", GPT_NEOX, {"rotary": "interleaved", "qkv": "apart"},
       unnamed={"model.use_untied_layer_norm": True, "model.use_ffn_bias": True,
                "model.attention_module": (None, "aiayn_attention")}),
    "layers.{i}.", LAYER, rows=ROWS, rest=(final_norm("final_layer_norm.{p:weight|bias}"),),
)
