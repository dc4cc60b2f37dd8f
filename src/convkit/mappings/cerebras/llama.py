"""hf/llama <-> cerebras/llama, and what families like it share of it (:func:`llama_like`).

Facts: ModelZoo release 2.10.0, ``tools/checkpoint_converters/llama.py`` (rules of cs-2.1 ... cs-2.9),
``models/nlp/llama/model.py``; transformers, ``models/llama``.
"""

from __future__ import annotations

from convkit.config import ABSENT, Constant, Field, Row
from convkit.mapping import AnyRule, Mapping, Part, Rule
from convkit.mappings.cerebras.classes.gpt2 import LLAMA
from convkit.mappings.cerebras.common import DOWN, FFN, GATE, GATED, OUT, QKV, UP, Cs, Hf, K, Q, V, fixed
from convkit.mappings.cerebras.decoder import NORM1, NORM2, Bias, decoder, final_norm
from convkit.mappings.cerebras.heads import GROUPS, WHOLE_HEADS
from convkit.mappings.cerebras.hf_classes import LLAMA_CONFIG
from convkit.mappings.cerebras.rope import FREQUENCIES, ROPE

# fmt: off
PAIRS = "(h two r) ... -> (h r two) ..."  # the halves of a head become pairs
ATTENTION = (
    Rule("self_attn.q_proj.{p:weight|bias?}", f"{Q}.{{p}}", PAIRS, h="heads", two=2, r="half"),
    Rule("self_attn.k_proj.{p:weight|bias?}", f"{K}.{{p}}", PAIRS, h="kv_heads", two=2, r="half"),
    Rule("self_attn.v_proj.{p:weight|bias?}", f"{V}.{{p}}", "(h r) ... -> (h r) ...", h="kv_heads", r="head_dim"),
    Rule("self_attn.o_proj.weight", f"{OUT}.weight", "d (h r) -> d (h r)", d="hidden", h="heads", r="head_dim"),
    Rule("self_attn.o_proj.bias", f"{OUT}.bias", "d -> d", d="hidden", optional=True),
    Rule("self_attn.{n:q|k}_norm.weight", "self_attn.{n}_norm.weight", "(two r) -> (r two)", two=2, optional=True),
)
NORMS = (
    Rule("input_layernorm.weight", f"{NORM1}.weight", "d -> d", d="hidden"),
    Rule("post_attention_layernorm.weight", f"{NORM2}.weight", "d -> d", d="hidden"),
)
MLP = (
    Rule("mlp.up_proj.{p:weight|bias?}", f"{UP}.{{p}}", "f ... -> f ...", f="filter"),
    Rule("mlp.gate_proj.{p:weight|bias?}", f"{GATE}.{{p}}", "f ... -> f ...", f="filter"),
    Rule("mlp.down_proj.{p:weight|bias?}", f"{DOWN}.{{p}}", "d ... -> d ...", d="hidden"),
)
HEAD_NORMS = tuple(Part(side, "norms of heads", ("self_attn.{n:q|k}_norm.weight",),
                        lack="a model may have no norms of queries and keys") for side in ("left", "right"))
ROWS: tuple[Row | Bias, ...] = (
    Field("vocab_size", "vocab_size", "vocab"),
    Field("hidden_size", "hidden_size", "hidden"),
    Field("num_hidden_layers", "num_hidden_layers", "layers"),
    Field("num_attention_heads", "num_heads", "heads"),
    Field("intermediate_size", "filter_size", "filter"),
    Field("hidden_act", "nonlinearity", "act", values=GATED),
    Field("max_position_embeddings", "max_position_embeddings", "positions"),
    Field("rms_norm_eps", "layer_norm_epsilon", "eps"),
    Field("initializer_range", "initializer_range"),
    Field("attention_dropout", "attention_dropout_rate", null=0.0),
    Field("tie_word_embeddings", "share_embedding_weights", "tied"),
    *WHOLE_HEADS, GROUPS, ROPE,
    Bias("attention_bias", "use_projection_bias_in_attention", "qkv_bias", "self_attn.{n:q|k|v}_proj", QKV),
    Bias("attention_bias", "use_ffn_bias_in_attention", "o_bias", "self_attn.o_proj", OUT),
    Bias("mlp_bias", "use_ffn_bias", "mlp_bias", "mlp.{n:up|gate|down}_proj", FFN),
    *fixed(norm_type="rmsnorm", position_embedding_type="rotary", attention_type="scaled_dot_product",
           use_bias_in_output=False, embedding_layer_norm=False),
    *(Constant("right", dropout, 0.0, default=ABSENT) for dropout in ("dropout_rate", "embedding_dropout_rate")),
)


def llama_like(hf: Hf, cs: Cs, layer: tuple[AnyRule, ...] = (*ATTENTION, *NORMS, *MLP),
               rows: tuple[Row | Bias, ...] = ROWS, parts: tuple[Part, ...] = HEAD_NORMS) -> Mapping:
    """The mapping of a decoder with rotary attention of grouped heads, RMS norms and a gated feed-forward part."""
    return decoder(hf, cs, "layers.{i}.", layer, rest=(final_norm("norm.weight"), FREQUENCIES), rows=rows, parts=parts)


MAPPING = llama_like(
    Hf("llama", ("LlamaModel", "LlamaForCausalLM"), LLAMA_CONFIG, "model.", "embed_tokens.weight",
       conventions={"rotary": "half", "norm_scale": "direct", "gate": "gate_proj"}),
    Cs("llama", "GPT2LMHeadModel configured as LLaMA", LLAMA,
       {"rotary": "interleaved", "norm_scale": "direct", "gate": "linear_layer_for_glu"}, ("LlamaModel",),
       {"model.norm_type": "rmsnorm", "model.attention_sliding_window_length": None, "model.moe": None,
        "model.norm_first_sandwich": (None, False)}),
)
