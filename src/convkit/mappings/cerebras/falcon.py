"""hf/falcon <-> cerebras/falcon: attention and feed-forward part side by side, behind one norm or two.

The first models came on the hub as RefinedWeb, with the same tensors and other fields.

Facts: ModelZoo release 2.10.0, ``tools/checkpoint_converters/falcon{,_7b,_40b,_180b}.py`` (rules of cs-2.1 ... cs-2.9),
``models/nlp/falcon``, which has no ALiBi; transformers, ``models/falcon``: it can't run two norms without
``new_decoder_architecture``, nor that without ``parallel_attn``.
"""

from __future__ import annotations

from msgspec.structs import replace

from convkit.config import Answer, ConfigError, Constant, Coupled, Field, Name, Row, Written
from convkit.mapping import Rule
from convkit.mappings.cerebras.classes.gptj import FALCON
from convkit.mappings.cerebras.common import ACTIVATIONS, DOWN, OUT, QKV, UP, Cs, Hf, fixed
from convkit.mappings.cerebras.decoder import NORM1, NORM2, SIZES, Bias, decoder, final_norm
from convkit.mappings.cerebras.heads import EQUAL_WHOLE_HEADS, Values, groups_divide, groups_of, left_out
from convkit.mappings.cerebras.hf_classes.falcon import FALCON_CONFIG, RW_CONFIG
from convkit.mappings.cerebras.rope import GPTJ_SCALINGS, rope

# fmt: off
REFINED = ("RefinedWebModel", "RefinedWeb")


def _parts_to_cerebras(values: Values, names: Values) -> Answer:
    refined, heads, groups = names["refined"], names["heads"], values.get("num_kv_heads")
    grouped = values["model_type"] == "RefinedWeb" if refined else bool(values.get("new_decoder_architecture"))
    if refined and (groups is None if grouped else groups not in (None, 1)):
        remedy = "RefinedWeb has groups of heads, RefinedWebModel has none: correct the config"
        raise ConfigError(f"is {groups}", key="n_head_kv", remedy=remedy)
    usual = dict.fromkeys(("parallel_attn", "multi_query"), not refined)
    if not (said := usual | values)["parallel_attn"]:
        raise ConfigError("is false", key="parallel_attn", remedy="ModelZoo's Falcon has parallel attention only")
    norms = values.get("num_ln_in_parallel_attn") or 1 + grouped
    if norms not in (1, 1 + grouped):
        raise ConfigError(f"is {norms}", key="num_ln_in_parallel_attn", remedy="2 needs new_decoder_architecture")
    groups = (groups or heads) if grouped else 1 if said["multi_query"] else heads
    groups_divide(heads, groups, "num_kv_heads")
    fields = {"attention_module": "multiquery_attention", "extra_attention_params": {"num_kv_groups": groups},
              "use_untied_layer_norm": norms == 2}
    return Answer(fields, {"kv_heads": groups, "untied": norms == 2}, defaults=left_out(values, **usual))


def _parts_to_hf(values: Values, names: Values) -> Answer:
    groups, untied = groups_of(values, names), values.get("use_untied_layer_norm", False)
    grouped = untied or 1 < groups < names["heads"]
    fields = {"num_kv_heads": groups, "multi_query": groups == 1, "new_decoder_architecture": grouped,
              "parallel_attn": True, "num_ln_in_parallel_attn": 1 + untied if grouped else None}
    taken = left_out(values, attention_module="aiayn_attention", use_untied_layer_norm=untied)
    return Answer(fields, {"kv_heads": groups, "untied": untied}, defaults=taken)


LAYER = (
    Rule("self_attention.query_key_value.{p:weight|bias?}", f"{QKV}.{{p}}",
         "(g (n two r + two r + s)) ... -> q: (g n r two) ... | k: (g r two) ... | v: (g s) ...",
         g="kv_heads", n="queries", two=2, r="half", s="head_dim"),
    Rule("self_attention.dense.{p:weight|bias?}", f"{OUT}.{{p}}", "d ... -> d ...", d="hidden"),
    Rule("{=norm}.{p:weight|bias}", f"{NORM1}.{{p}}", "d -> d", d="hidden"),
    Rule("ln_mlp.{p:weight|bias}", f"{NORM2}.{{p}}", "d -> d", d="hidden", when="untied"),
    Rule("mlp.dense_h_to_4h.{p:weight|bias?}", f"{UP}.{{p}}", "f ... -> f ...", f="filter"),
    Rule("mlp.dense_4h_to_h.{p:weight|bias?}", f"{DOWN}.{{p}}", "d ... -> d ...", d="hidden"),
)
ROWS: tuple[Row | Bias, ...] = (
    Coupled(("model_type",), (), lambda values, names: Answer(names={"refined": values.get("model_type") in REFINED}),
            lambda values, names: Answer(names={"refined": False})),
    *SIZES,
    Field("ffn_hidden_size", "filter_size", "filter", null=lambda names: 4 * names["hidden"]),
    Field("activation", "nonlinearity", "act", values=ACTIVATIONS),
    Field("layer_norm_epsilon", "layer_norm_epsilon", "eps"),
    Field("hidden_dropout", "residual_dropout_rate", null=0.0),
    Field("attention_dropout", "attention_dropout_rate", null=0.0),
    Constant("left", "alibi", False, also=(None,)),
    *EQUAL_WHOLE_HEADS,
    Coupled(("model_type", "num_kv_heads", "new_decoder_architecture", "multi_query", "parallel_attn",
             "num_ln_in_parallel_attn"), ("attention_module", "extra_attention_params", "use_untied_layer_norm"),
            _parts_to_cerebras, _parts_to_hf),
    Name("queries", lambda names: names["heads"] // names["kv_heads"], of="kv_heads"),
    Name("norm", lambda names: "ln_attn" if names["untied"] else "input_layernorm"),
    replace(rope(said=True, scalings=GPTJ_SCALINGS), when="!refined"),
    Written("right", "rope_theta", 10000.0, when="refined"),
    Bias("bias", "use_projection_bias_in_attention", "qkv_bias", "self_attention.query_key_value", QKV, "right"),
    Bias("bias", "use_ffn_bias_in_attention", "o_bias", "self_attention.dense", OUT, "right"),
    Bias("bias", "use_ffn_bias", "mlp_bias", "mlp.{n:dense_h_to_4h|dense_4h_to_h}", "ffn.ffn.{n:0|1}.linear_layer"),
    Written("right", "loss_scaling", "num_tokens"),
    *fixed(position_embedding_type="rotary", attention_type="scaled_dot_product", embedding_dropout_rate=0.0,
           use_bias_in_output=False),
)

MAPPING = decoder(
    Hf("falcon", ("FalconModel", "FalconForCausalLM"), FALCON_CONFIG, "transformer.", "word_embeddings.weight",
       conventions={"rotary": "half", "qkv": "fused by group of heads"}, names=REFINED,
       earlier=(("refined", RW_CONFIG),)),
    Cs("falcon", "FalconModel", FALCON, {"rotary": "interleaved", "qkv": "apart"},
       unnamed={"model.use_untied_layer_norm": (True, False), "model.attention_module": "multiquery_attention"}),
    "h.{i}.", LAYER, rows=ROWS, rest=(final_norm("ln_f.{p:weight|bias}"),),
)
