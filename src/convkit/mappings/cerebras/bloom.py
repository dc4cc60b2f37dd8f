"""hf/bloom <-> cerebras/bloom: attention whose scores fall with the distance, by a slope for each head (ALiBi).

ModelZoo keeps the slopes, transformers computes them. ModelZoo's converter writes no activation, and ModelZoo takes the
exact GELU then; transformers' Bloom has its tanh approximation.

Facts: ModelZoo release 2.10.0, ``tools/checkpoint_converters/bloom_hf_cs.py`` (rules of cs-2.1 ... cs-2.9),
``models/nlp/bloom``; transformers, ``models/bloom``.
"""

from __future__ import annotations

from convkit.config import Constant, Field, Name
from convkit.mapping import Derived, Rule
from convkit.mappings.cerebras.classes.gpt2 import BLOOM
from convkit.mappings.cerebras.common import DOWN, OUT, QKV, UP, Cs, Hf, fixed
from convkit.mappings.cerebras.decoder import NORM1, NORM2, SLOPES, WORDS, decoder, final_norm
from convkit.mappings.cerebras.heads import equal_heads
from convkit.mappings.cerebras.hf_classes.bloom import BLOOM_CONFIG
from convkit.mappings.cerebras.mup import Scales

TANH = "transformers' Bloom has the tanh approximation of the GELU, and no field for another activation"

# fmt: off
LAYER = (
    Rule("self_attention.query_key_value.{p:weight|bias}", f"{QKV}.{{p}}", "(h qkv r) ... -> qkv (h r) ...",
         h="heads", r="head_dim"),
    Rule("self_attention.dense.{p:weight|bias}", f"{OUT}.{{p}}", "d ... -> d ...", d="hidden"),
    Rule("input_layernorm.{p:weight|bias}", f"{NORM1}.{{p}}", "d -> d", d="hidden"),
    Rule("post_attention_layernorm.{p:weight|bias}", f"{NORM2}.{{p}}", "d -> d", d="hidden"),
    Rule("mlp.dense_h_to_4h.{p:weight|bias}", f"{UP}.{{p}}", "f ... -> f ...", f="filter"),
    Rule("mlp.dense_4h_to_h.{p:weight|bias}", f"{DOWN}.{{p}}", "d ... -> d ...", d="hidden"),
)
ROWS = (
    Field("vocab_size", "vocab_size", "vocab"),
    Field("hidden_size", "hidden_size", "hidden"),
    Field("n_layer", "num_hidden_layers", "layers"),
    Field("n_head", "num_heads", "heads"), equal_heads("n_head"),
    Constant("right", "filter_size", lambda names: 4 * names["hidden"]),
    Name("filter", lambda names: 4 * names["hidden"]),
    Constant("right", "nonlinearity", "gelu_new", near=(("gelu", TANH),)),
    Field("layer_norm_epsilon", "layer_norm_epsilon", "eps"),
    Field("initializer_range", "initializer_range"),
    Field("hidden_dropout", "dropout_rate", "dropout"),
    Field("attention_dropout", "attention_dropout_rate", null=lambda names: names["dropout"]),
    Field("tie_word_embeddings", "share_embedding_weights", "tied"),
    *fixed(position_embedding_type="alibi", embedding_layer_norm=True, attention_type="scaled_dot_product",
           use_projection_bias_in_attention=True, use_ffn_bias_in_attention=True, use_ffn_bias=True,
           use_bias_in_output=False),
    Constant("right", "embedding_dropout_rate", 0.0, default=lambda names: names["dropout"]),
)

MAPPING = decoder(
    Hf("bloom", ("BloomModel", "BloomForCausalLM"), BLOOM_CONFIG, "transformer.", "word_embeddings.weight",
       conventions={"qkv": "fused by head"}),
    Cs("bloom", "GPT2LMHeadModel configured as Bloom", BLOOM, {"qkv": "apart"}, ("BloomModel",),
       unnamed={"model.position_embedding_type": "alibi", "model.embedding_layer_norm": True}),
    "h.{i}.", LAYER, rows=ROWS, scales=Scales(BLOOM, "mup_norm"),
    rest=(final_norm("ln_f.{p:weight|bias}"),
          Rule("{=hf}word_embeddings_layernorm.{p:weight|bias}", "{=cs}embedding_ln_f.{p}", "d -> d", d="hidden"),
          Derived("right", SLOPES, "alibi slopes", {"heads": "heads"}, (WORDS,), ("heads", 1), "float32", proven=True)),
)
