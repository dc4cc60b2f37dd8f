"""hf/gpt2 <-> cerebras/gpt2.

Facts: ModelZoo release 2.10.0, ``tools/checkpoint_converters/gpt2_hf_cs.py`` (rules of cs-2.1 ... cs-2.9);
transformers, ``models/gpt2``: its ``Conv1D`` stores weights ``[in, out]``; up to release 4.30 it saved the causal mask
and its fill value as buffers.
"""

from __future__ import annotations

from convkit.config import Field
from convkit.mapping import Derived, Rule
from convkit.mappings.cerebras.classes.gpt2 import GPT2
from convkit.mappings.cerebras.common import ACTIVATIONS, DOWN, OUT, QKV, UP, Cs, Hf, fixed
from convkit.mappings.cerebras.decoder import NORM1, NORM2, POSITIONS, decoder, final_norm
from convkit.mappings.cerebras.heads import equal_heads
from convkit.mappings.cerebras.hf_classes.gpt import GPT2_CONFIG

# fmt: off
OUTPUT_AND_FFN = (
    Rule("attn.c_proj.weight", f"{OUT}.weight", "d o -> o d", d="hidden", o="hidden"),
    Rule("attn.c_proj.bias", f"{OUT}.bias", "o -> o", o="hidden"),
    Rule("ln_1.{p:weight|bias}", f"{NORM1}.{{p}}", "d -> d", d="hidden"),
    Rule("ln_2.{p:weight|bias}", f"{NORM2}.{{p}}", "d -> d", d="hidden"),
    Rule("mlp.c_fc.weight", f"{UP}.weight", "d f -> f d", d="hidden", f="filter"),
    Rule("mlp.c_fc.bias", f"{UP}.bias", "f -> f", f="filter"),
    Rule("mlp.c_proj.weight", f"{DOWN}.weight", "f d -> d f", d="hidden", f="filter"),
    Rule("mlp.c_proj.bias", f"{DOWN}.bias", "d -> d", d="hidden"),
    Derived("left", "attn.bias", "causal mask", {"n": "positions"}),
    Derived("left", "attn.masked_bias", "constant", {"value": -1e4}),
)
LAYER = (
    Rule("attn.c_attn.weight", f"{QKV}.weight", "d (qkv o) -> qkv o d", d="hidden", o="hidden"),
    Rule("attn.c_attn.bias", f"{QKV}.bias", "(qkv o) -> qkv o", o="hidden"),
    *OUTPUT_AND_FFN,
)
#: the rows of every family with GPT-2's fields
FIELDS = (
    Field("vocab_size", "vocab_size", "vocab"),
    Field("n_embd", "hidden_size", "hidden"),
    Field("n_layer", "num_hidden_layers", "layers"),
    Field("n_head", "num_heads", "heads"), equal_heads("n_head"),
    Field("n_inner", "filter_size", "filter", null=lambda names: 4 * names["hidden"]),
    Field("n_positions", "max_position_embeddings", "positions"),
    Field("layer_norm_epsilon", "layer_norm_epsilon", "eps"),
    Field("initializer_range", "initializer_range"),
    Field("resid_pdrop", "dropout_rate", "dropout"),
    Field("embd_pdrop", "embedding_dropout_rate", null=lambda names: names["dropout"]),
    Field("attn_pdrop", "attention_dropout_rate", null=lambda names: names["dropout"]),
    Field("tie_word_embeddings", "share_embedding_weights", "tied"),
    *fixed(use_bias_in_output=False),
)
ROWS = (
    *FIELDS,
    Field("activation_function", "nonlinearity", "act", values=ACTIVATIONS),
    Field("scale_attn_weights", "attention_type", values=((True, "scaled_dot_product"), (False, "dot_product"))),
)

REST = (
    final_norm("ln_f.{p:weight|bias}"),
    Rule("{=hf}wpe.weight", POSITIONS, "p d -> p d", p="positions", d="hidden"),
)

MAPPING = decoder(
    Hf("gpt2", ("GPT2Model", "GPT2LMHeadModel"), GPT2_CONFIG, "transformer.", "wte.weight",
       conventions={"kernels": "in, out", "qkv": "fused"}),
    Cs("gpt2", "GPT2LMHeadModel", GPT2, {"kernels": "out, in", "qkv": "apart"}, unnamed={
        "model.nonlinearity": (None, *(cs for _, cs in ACTIVATIONS)), "model.norm_type": (None, "layernorm"),
        "model.position_embedding_type": (None, "learned"), "model.attention_module": (None, "aiayn_attention")}),
    "h.{i}.", LAYER, rows=ROWS, rest=REST,
)
