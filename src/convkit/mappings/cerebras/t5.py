"""hf/t5 <-> cerebras/t5: an encoder and a decoder. UL2, Flan-UL2 and ModelZoo's transformer class are of them, too.

The embedding is one table under three names, and under a fourth where the output head is tied. transformers 5 ties
wherever a checkpoint has no head of its own. Each stack has one table of relative positions; transformers keeps it in
the stack's first block.

Facts: ModelZoo release 2.10.0, ``tools/checkpoint_converters/t5.py`` (rules of cs-2.1 ... cs-2.9) and
``models/nlp/t5``; transformers, ``models/t5``.
"""

from __future__ import annotations

from convkit.config import ConfigTable, Constant, Field, Written
from convkit.mapping import AnyRule, LeftBehind, Mapping, Rule, Variant, under
from convkit.mappings.cerebras.classes.t5 import T5
from convkit.mappings.cerebras.common import DOWN, GATE, HALF_TYPE, MODEL_AT, NOT_THE_MODEL, OPTIMIZER, UP, Cs, Hf
from convkit.mappings.cerebras.hf_classes.t5 import T5_CONFIG
from convkit.mappings.cerebras.mup import STATED
from convkit.mappings.cerebras.t5_fields import ACTIVATION, TIED, VOCABULARY
from convkit.mappings.cerebras.t5_mup import ROWS as MUP
from convkit.mappings.cerebras.t5_mup import SCALED

HF_WORDS = ("shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
CS_WORDS = tuple(f"{{=cs}}{stack}_embeddings.word_embeddings.weight" for stack in ("encoder", "decoder"))
HF_HEAD, CS_HEAD = "lm_head.weight", "{=cs}lm_head.weight"


# fmt: off
def _attention(hf: str, cs: str) -> tuple[AnyRule, ...]:
    """The rules of an attention, whose heads needn't share the hidden size out."""
    return (
        Rule(f"{hf}.{{qkv:q|k|v}}.weight", f"{cs}.proj_{{qkv}}_dense_layer.weight", "(h r) d -> (h r) d",
             h="heads", r="d_kv", d="hidden"),
        Rule(f"{hf}.o.weight", f"{cs}.proj_output_dense_layer.weight", "d (h r) -> d (h r)",
             h="heads", r="d_kv", d="hidden"),
    )


def _layer(last: int) -> tuple[AnyRule, ...]:
    """The rules of a layer whose feed-forward part is transformers' sublayer ``last``."""
    ffn = f"layer.{last}.DenseReluDense"
    return (
        Rule("layer.0.layer_norm.weight", "norm1.weight", "d -> d", d="hidden"),
        *_attention("layer.0.SelfAttention", "self_attn"),
        Rule(f"layer.{last}.layer_norm.weight", f"norm{last + 1}.weight", "d -> d", d="hidden"),
        Rule(f"{ffn}.wi.weight", f"{UP}.weight", "f d -> f d", f="filter", d="hidden", when="!gated"),
        Rule(f"{ffn}.wi_0.weight", f"{GATE}.weight", "f d -> f d", f="filter", d="hidden", when="gated"),
        Rule(f"{ffn}.wi_1.weight", f"{UP}.weight", "f d -> f d", f="filter", d="hidden", when="gated"),
        Rule(f"{ffn}.wo.weight", f"{DOWN}.weight", "d f -> d f", f="filter", d="hidden"),
    )


CROSS = (
    Rule("layer.1.layer_norm.weight", "norm2.weight", "d -> d", d="hidden"),
    *_attention("layer.1.EncDecAttention", "multihead_attn"),
)
RULES = (
    Rule((*HF_WORDS, HF_HEAD), (*CS_WORDS, CS_HEAD), "v d -> v d", v="vocab", d="hidden", when="tied"),
    Rule(HF_WORDS, (*CS_WORDS, CS_HEAD), "v d -> v d", v="vocab", d="hidden", when="!tied & head=shared"),
    Rule(HF_WORDS, CS_WORDS, "v d -> v d", v="vocab", d="hidden", when="!tied & head=lm_head"),
    Rule(HF_HEAD, CS_HEAD, "v d -> v d", v="vocab", d="hidden", when="!tied & head=lm_head"),
    Rule("{s:encoder|decoder}.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
         "{=cs}{s}_embeddings.position_embed_helper.relative_attention_bias.weight",
         "b h -> b h", b="buckets", h="heads"),
    *under("encoder.block.{i}.", "{=cs}encoder.layers.{i}.", _layer(1)),
    *under("decoder.block.{j}.", "{=cs}decoder.layers.{j}.", (*_layer(2), *CROSS)),
    Rule("{s:encoder|decoder}.final_layer_norm.weight", "{=cs}{s}.norm.weight", "d -> d", d="hidden"),
    LeftBehind("left", "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight", "it has no effect"),
    *SCALED,
    NOT_THE_MODEL,
)
ROWS = (
    Constant("left", "model_type", "t5"),
    Constant("right", "name", "t5", also=("T5ForConditionalGeneration", "transformer")),
    VOCABULARY,
    Field("d_model", "d_model", "hidden"),
    Field("num_layers", "encoder_num_hidden_layers", "encoder_layers"),
    Field("num_decoder_layers", "decoder_num_hidden_layers", "decoder_layers",
          null=lambda names: names["encoder_layers"]),
    Field("num_heads", "num_heads", "heads"),
    Field("d_kv", "d_kv"),
    Field("d_ff", "d_ff", "filter"),
    ACTIVATION,
    Field("relative_attention_num_buckets", "relative_attention_num_buckets", "buckets"),
    Field("layer_norm_epsilon", "layer_norm_epsilon", "eps"),
    Field("dropout_rate", "dropout_rate"),
    *TIED, *MUP,
    Constant("right", "norm_type", "rmsnorm"),
    Written("right", "src_max_position_embeddings", 512),
    Written("right", "tgt_max_position_embeddings", 512),
    HALF_TYPE,
    Written("left", "architectures", ["T5ForConditionalGeneration"]),
)

MAPPING = Mapping(
    left=Hf("t5", ("T5ForConditionalGeneration",), T5_CONFIG, "", HF_WORDS[0]).layout,
    right=Cs("t5", "T5 and transformer", T5, names=("T5ForConditionalGeneration", "transformer"), unnamed={}).layout,
    rules=RULES,
    config=ConfigTable(ROWS, left=T5_CONFIG, right=T5, right_at=MODEL_AT),
    variants=(
        Variant("head", "left", ("lm_head", "shared"), "{=head}.weight"),
        Variant("cs", "right", ("model.", "model.model.", ""), CS_WORDS[0]),
    ),
    axes={"i": "encoder_layers", "j": "decoder_layers"},
    parts=(OPTIMIZER,), recalled=(STATED,),
)
