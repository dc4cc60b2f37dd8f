"""hf/gptj <-> cerebras/gptj: attention and feed-forward part side by side behind one norm; both rotate pairs.

Facts: ModelZoo release 2.10.0, ``tools/checkpoint_converters/gptj_hf_cs.py`` (rules of cs-2.1 ... cs-2.9) and
``models/nlp/gptj``; transformers, ``models/gptj``: its output head always has a bias, which starts as zeros where a
checkpoint has none; up to release 4.30 it saved the causal mask and its fill value as buffers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from convkit.config import Answer, Coupled, Field
from convkit.errors import ConfigError
from convkit.mapping import Derived, Rule
from convkit.mappings.cerebras.classes.gptj import GPTJ
from convkit.mappings.cerebras.common import ACTIVATIONS, DOWN, OUT, QKV, UP, Cs, Hf, fixed
from convkit.mappings.cerebras.decoder import NORM1, decoder, final_norm
from convkit.mappings.cerebras.heads import heads_divide
from convkit.mappings.cerebras.hf_classes.gpt import GPTJ_CONFIG


def _rotary(heads: str, usual: Callable[[int], int]) -> Callable[[dict[str, Any], dict[str, Any]], Answer]:
    """Of each head, the first ``rotary_dim`` dimensions are rotated, in pairs."""

    def convert(values: dict[str, Any], names: dict[str, Any]) -> Answer:
        head_dim = heads_divide(names["hidden"], names["heads"], heads)
        stated = values.get("rotary_dim")
        rotary_dim = usual(head_dim) if stated is None else stated
        if rotary_dim % 2 or not 0 < rotary_dim <= head_dim:
            problem = f"is {rotary_dim}{' by default' if stated is None else ''}, and a head has {head_dim} dimensions"
            remedy = "correct the config: the dimensions are rotated in pairs, and a head must have as many"
            raise ConfigError(problem, key="rotary_dim", remedy=remedy)
        unsaid = f"rotary_dim isn't given, and no tensor can show it: its default is taken, {rotary_dim}"
        field = {"rotary_dim": rotary_dim}
        left_out = {} if "rotary_dim" in values else field
        return Answer(field, field, warnings=(unsaid,) if stated is None else (), defaults=left_out)

    return convert


CS = Cs(
    "gptj",
    "GPTJModel",
    GPTJ,
    {"rotary": "interleaved"},
    unnamed={
        "model.use_untied_layer_norm": (None, False),
        "model.use_ffn_bias": True,
        "model.use_projection_bias_in_attention": False,
    },
)

# fmt: off
OUTPUT_AND_FFN = (
    Rule("attn.out_proj.weight", f"{OUT}.weight", "d o -> d o", d="hidden", o="hidden"),
    Rule("ln_1.{p:weight|bias}", f"{NORM1}.{{p}}", "d -> d", d="hidden"),
    Rule("mlp.fc_in.{p:weight|bias}", f"{UP}.{{p}}", "f ... -> f ...", f="filter"),
    Rule("mlp.fc_out.{p:weight|bias}", f"{DOWN}.{{p}}", "d ... -> d ...", d="hidden"),
    Derived("left", "attn.bias", "causal mask", {"n": "positions"}),
    Derived("left", "attn.masked_bias", "constant", {"value": -1e9}),
)
LAYER = (Rule("attn.{qkv:q|k|v}_proj.weight", f"{QKV}.weight", "o d -> o d", o="hidden", d="hidden"), *OUTPUT_AND_FFN)
ROWS = (
    Field("vocab_size", "vocab_size", "vocab"),
    Field("n_embd", "hidden_size", "hidden"),
    Field("n_layer", "num_hidden_layers", "layers"),
    Field("n_head", "num_heads", "heads"),
    Field("n_inner", "filter_size", "filter", null=lambda names: 4 * names["hidden"]),
    Field("activation_function", "nonlinearity", "act", values=ACTIVATIONS),
    Field("n_positions", "max_position_embeddings", "positions"),
    Coupled(("rotary_dim",), ("rotary_dim",), _rotary("n_head", lambda head_dim: 64),
            _rotary("num_heads", lambda head_dim: head_dim // 4)),
    Field("layer_norm_epsilon", "layer_norm_epsilon", "eps"),
    Field("initializer_range", "initializer_range"),
    Field("resid_pdrop", "residual_dropout_rate", "dropout"),
    Field("embd_pdrop", "embedding_dropout_rate"),
    Field("attn_pdrop", "attention_dropout_rate", null=lambda names: names["dropout"]),
    Field("tie_word_embeddings", "share_embedding_weights", "tied"),
    *fixed(attention_type="scaled_dot_product", use_projection_bias_in_attention=False,
           use_ffn_bias_in_attention=False, use_ffn_bias=True, use_untied_layer_norm=False),
)

MAPPING = decoder(
    Hf("gptj", ("GPTJModel", "GPTJForCausalLM"), GPTJ_CONFIG, "transformer.", "wte.weight",
       conventions={"rotary": "interleaved"}),
    CS, "h.{i}.", LAYER, rows=ROWS, rest=(final_norm("ln_f.{p:weight|bias}"),), head_bias="use_bias_in_output",
)
