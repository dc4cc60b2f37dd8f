"""hf/llama <-> acorn/decoder: the same decoder in transformers' layout and in Acorn's, as tables that run both ways.

Facts: the README, for Acorn; transformers, ``models/llama``. What is in neither table is refused by name.
"""

from __future__ import annotations

from typing import Any

from convkit.config import (
    AMOUNT,
    COUNT,
    FLAG,
    POSITIVE,
    RATE,
    REQUIRED,
    TEXT,
    Answer,
    ClassField,
    ConfigClass,
    ConfigError,
    ConfigTable,
    Constant,
    Coupled,
    Field,
    Written,
    free,
)
from convkit.mapping import Layout, Mapping, Rule, under
from convkit.mappings import own_side

HF, LLAMA = own_side("hf/llama")
ACORN = Layout(
    name="acorn/decoder",
    summary="Acorn's decoder: fused queries, keys and values, rotary pairs",
    format="acorn",
    config_file="config.json",
    conventions={"rotary": "interleaved", "norm_scale": "direct", "gate": "first half of gate_up"},
    signature=({"framework": "acorn"},),
)

# --- tensors -----------------------------------------------------------------------------------------------

LAYER = (
    Rule("input_layernorm.weight", "norm_1", "d -> d", d="hidden"),
    # halves of a head become pairs, of queries and keys alone, and the three are laid end to end
    Rule(
        "self_attn.{part:q|k|v}_proj.weight",
        "qkv",
        "q: (h two r) d | k: (g two r) d | v: (g s) d -> (h r two + g r two + g s) d",
        h="heads", g="kv_heads", two=2, r="half", s="head_dim", d="hidden",
    ),
    Rule("self_attn.o_proj.weight", "out", "o a -> a o", o="hidden", a="hidden"),
    Rule("post_attention_layernorm.weight", "norm_2", "d -> d", d="hidden"),
    Rule("mlp.{part:gate|up}_proj.weight", "gate_up", "part f d -> (part f) d", f="inner", d="hidden"),
    Rule("mlp.down_proj.weight", "down", "d f -> f d", d="hidden", f="inner"),
)  # fmt: skip
WORDS, HEAD = "model.embed_tokens.weight", "lm_head.weight"
RULES = (
    Rule((WORDS, HEAD), "tokens", "v d -> v d", v="vocab", d="hidden", when="tied"),
    Rule(WORDS, "tokens", "v d -> v d", v="vocab", d="hidden", when="!tied"),
    Rule(HEAD, "head", "v d -> v d", v="vocab", d="hidden", when="!tied"),
    *under("model.layers.{i}.", "blocks.{i}.", LAYER),
    Rule("model.norm.weight", "norm", "d -> d", d="hidden"),
)

# --- configs -----------------------------------------------------------------------------------------------

#: the base of the rotary frequencies, where a config doesn't say it: the same on both sides
BASE = 10000.0
#: every field of an Acorn config, its default, and which values it may have
CONFIG = ConfigClass("Acorn's config", "README.md of convkit-example", {
    "framework": ClassField(TEXT, REQUIRED),
    "width": ClassField(COUNT, REQUIRED),
    "depth": ClassField(COUNT, REQUIRED),
    "heads": ClassField(COUNT, REQUIRED),
    "groups": ClassField(COUNT, REQUIRED),
    "inner": ClassField(COUNT, REQUIRED),
    "vocab": ClassField(COUNT, REQUIRED),
    "context": ClassField(COUNT, REQUIRED),
    "theta": ClassField(POSITIVE, BASE),
    "eps": ClassField(AMOUNT, 1e-5),
    "tied": ClassField(FLAG, False),
    "dropout": free(RATE, 0.0),  # changes nothing in what a trained model computes
})  # fmt: skip

Values = dict[str, Any]


def _head_dim(names: Values, field: str, stated: int | None = None) -> Values:
    """Heads share the width out, and are rotated in pairs; ``field`` is what the config calls their number."""
    heads, groups, hidden = names["heads"], names["kv_heads"], names["hidden"]
    if hidden % (2 * heads) or heads % groups or stated not in (None, hidden // heads):
        problem = f"{heads} heads of {stated or hidden / heads:g} in {groups} groups don't make a width of {hidden}"
        remedy = "Acorn's heads share out the width, have an even size, and equal groups"
        raise ConfigError(problem, key=field, remedy=remedy)
    return {"head_dim": hidden // heads, "half": hidden // heads // 2}


def _to_acorn(values: Values, names: Values) -> Answer:
    """transformers 5 writes ``rope_parameters``, transformers 4 ``rope_theta`` and ``rope_scaling``."""
    field = "rope_parameters" if values.get("rope_parameters") else "rope_scaling"
    rotary = dict(values.get(field) or {})
    theta = rotary.pop("rope_theta", None) or values.get("rope_theta")
    if rotary.pop("rope_type", "default") != "default" or rotary:
        raise ConfigError("Acorn's rotary positions aren't scaled", key=field, remedy="this model has no Acorn")
    sizes = _head_dim(names, "num_attention_heads", values.get("head_dim"))
    return Answer({"theta": theta or BASE}, names=sizes, defaults={} if theta else {"rope_theta": BASE})


def _to_hf(values: Values, names: Values) -> Answer:
    theta, sizes = values.get("theta", BASE), _head_dim(names, "heads")
    return Answer({"rope_theta": theta}, names=sizes, defaults={"theta": theta})  # taken where it is left out


ROWS = (
    Constant("left", "model_type", "llama"),
    Constant("right", "framework", "acorn"),
    Field("vocab_size", "vocab", "vocab"),
    Field("hidden_size", "width", "hidden"),
    Field("num_hidden_layers", "depth", "layers"),
    Field("num_attention_heads", "heads", "heads"),
    Field("num_key_value_heads", "groups", "kv_heads", null=lambda names: names["heads"]),
    Field("intermediate_size", "inner", "inner"),
    Field("max_position_embeddings", "context"),
    Field("rms_norm_eps", "eps"),
    Field("tie_word_embeddings", "tied", "tied"),
    Field("attention_dropout", "dropout", null=0.0),
    Coupled(("rope_parameters", "rope_scaling", "rope_theta", "head_dim"), ("theta",), _to_acorn, _to_hf),
    Written("left", "architectures", ["LlamaForCausalLM"]),
)

MAPPING = Mapping(HF, ACORN, RULES, ConfigTable(ROWS, left=LLAMA, right=CONFIG), axes={"i": "layers"})
