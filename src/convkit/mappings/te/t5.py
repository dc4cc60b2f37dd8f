"""t5x/t5 <-> te/t5: Transformer Engine's layers with unfused attention.

Facts: T5X dddbfca, ``examples/t5/{network,layers}.py``; JAX-Toolbox 3e33819f, ``t5x_converters.py`` (names and
shapes of both sides); the first half of TE's ``wi_kernel`` is the activated one, like ``wi_0``, in every release.

Kernels are joined: query, key and value ``[embed, heads*dim]``, out ``[heads*dim, embed]``, wi ``[embed, mlp]``.
"""

from __future__ import annotations

from typing import Any

from convkit.config import Answer, ConfigTable, Coupled
from convkit.errors import ConfigError
from convkit.mapping import Layout, Mapping, Measure, Part, Refused, Rule, Verbatim, for_slots, under
from convkit.mappings.te.adafactor import FACT, KINDS, MEASURES, slots
from convkit.mappings.te.common import NORMS, SCOPE, WEIGHT_ONLY, both_sides, split_heads, where
from convkit.mappings.te.fp8 import DEFAULT, FP8, SLOTS, fp8_rules

CONVENTIONS = {"norm_scale": "direct", "gate": "wi_0"}

T5X = Layout(
    name="t5x/t5",
    summary="T5X: T5, T5 1.1, mT5, encoder and decoder of any depth",
    format="t5x",
    config_file="",
    conventions=CONVENTIONS,
    keys=("target.{s:encoder|decoder}.layers_{i}.mlp.wo.kernel",),
)
TE = Layout(
    name="te/t5",
    summary="T5X with Transformer Engine's layers, separate query, key and value",
    format="t5x",
    config_file="",
    conventions=CONVENTIONS,
    keys=(
        "target.{s:encoder|decoder}.layers_{i}.mlp.wi_kernel",
        "target.{s:encoder|decoder}.layers_{i}.{a:attention|self_attention}.key.kernel",
    ),
)

MLP = (
    Rule("mlp.wi_{g}.kernel", "mlp.wi_kernel", "g e f -> e g f", g="activations", when="activations>1"),
    Rule("mlp.wi.kernel", "mlp.wi_kernel", "e f -> e 1 f", when="activations<2"),
    Rule("mlp.wo.kernel", "mlp.wo_kernel"),
    *where("norms=converted", [Rule("pre_mlp_layer_norm.scale", "mlp.scale")]),
)

KEPT = tuple(
    Rule(f"{attention}.{{n:query|key|value|out}}.kernel", f"{attention}.{{n}}.kernel")
    for attention in ("attention", "self_attention", "encoder_decoder_attention")
)
ENCODER = (
    KEPT[0],
    *where("norms=converted", [Rule("pre_attention_layer_norm.scale", "attention.query.scale")]),
    *MLP,
)
CROSS_NORM = where(
    "norms=converted", [Rule("pre_cross_attention_layer_norm.scale", "encoder_decoder_attention.query.scale")]
)
DECODER = (
    KEPT[1],
    *where("norms=converted", [Rule("pre_self_attention_layer_norm.scale", "self_attention.query.scale")]),
    *where("cross>0", [KEPT[2], *CROSS_NORM]),
    *MLP,
)

#: positions of Adam's moments, or of momentum, in optax chains
MOMENTS = "state.param_states.{at:0?|1?|2?|0.0?|1.0?|2.0?|0.1?|1.1?}.{slot}."
SLOT_NAMES = ("mu?", "nu?", "trace?")

PARAMETER, STATE = "target.{leaf:*}", "state.param_states."
DOWN = "target.{s:encoder|decoder}.layers_{i}.mlp.{w:wo.kernel|wo_kernel}"
#: What the tree holds beside its layers, and the optimizer's slots of each parameter. Where the weights alone were
#: converted, the slots have kept the names of the other layout.
PARTS = (
    *both_sides(Part("left", "T5X counts its steps", ("state.step",), needed=True)),
    *both_sides(Part("left", "each stack ends in a norm", ("target.{s:encoder|decoder}.{s}_norm.scale",), DOWN,
                     needed=True)),
    *both_sides(Part("left", "each stack has relative positions",
                     ("target.{s:encoder|decoder}.relpos_bias.rel_embedding",), DOWN, needed=True)),
    *both_sides(Part("left", "an encoder embeds its tokens", ("target.token_embedder.embedding",),
                     "target.encoder.layers_{i}.mlp.{leaf:*}", needed=True)),
    *both_sides(Part("left", "Adam's moments", (STATE + "{at:*}.{slot:mu|nu}.{leaf:*}",), PARAMETER, when="scope=all")),
    *both_sides(Part("left", "momentum", (STATE + "{at:*}.trace.{leaf:*}",), PARAMETER, when="scope=all")),
    *both_sides(Part("left", "Adafactor's slots", (STATE + "{leaf:*}.{slot:m|v|v_row|v_col}",), PARAMETER,
                     when="scope=all")),
    *both_sides(Part("left", "Adam counts its steps", (STATE + "{at:*}.count",),
                     STATE + "{at:*}.{slot:mu|nu}.{leaf:*}", needed=True)),
    *both_sides(Part("left", "an optimizer that counts has slots",
                     (STATE + "{at:*}.{slot:*}.{t:*}.layers_{i}.{leaf:*}",), STATE + "{n:*}.count", needed=True)),
)  # fmt: skip


def _agree(_: dict[str, Any], names: dict[str, Any]) -> Answer:
    """Check the user's numbers of heads and layers; nothing here needs them."""
    heads = split_heads(names)[0]
    groups, joined = names.get("kv_heads"), names.get("joined")
    if groups and (groups != heads if heads else joined and joined % groups):
        raise ConfigError(
            f"has as many heads of keys and values as of queries, not {groups}",
            remedy="correct --num-gqa-groups (--size kv_heads=N), or leave it out",
        )
    found = {names["encoder_layers"], names["decoder_layers"]} - {0}
    if "layers" in names and found != {names["layers"]}:
        raise ConfigError(
            f"has {names['encoder_layers']} encoder, {names['decoder_layers']} decoder layers, not {names['layers']}",
            remedy="correct --num-of-layer (--size layers=N), or leave it out",
        )
    return Answer()


def t5_mapping(te: Layout, encoder: tuple[Rule, ...], decoder: tuple[Rule, ...]) -> Mapping:
    """The mapping between T5X and one of its TE layouts, from the rules of their layers."""
    first, second = "encoder.layers_{i}.", "decoder.layers_{j}."
    layers = (*under(first, first, encoder), *under(second, second, decoder))
    stack = "target.{s:encoder|decoder}.layers_{i}."
    return Mapping(
        left=T5X,
        right=te,
        rules=(
            *under("target.", "target.", layers),
            *where("scope=all", for_slots(layers, SLOT_NAMES, MOMENTS, MOMENTS, optional=True)),
            *slots(layers, "scope=all"),
            *(rule for at in (first, second) for rule in fp8_rules("flax_mutables.", "target.", at)),
            Verbatim("{all:*}.layers_{i}.{n:pre_attention|pre_self_attention|pre_cross_attention|pre_mlp}_layer_norm.{p:*}",
                     when="norms=kept"),
            Verbatim("{all:*}.layers_{i}.{n:*}.scale", when="norms=kept"),
            *both_sides(Refused("left", stack + "{rest:*}", f"isn't a leaf that {T5X.name} and {te.name} share",
                                "name the right layouts, or drop it: --drop")),
            *both_sides(Refused("left", "state.{rest:*}.layers_{i}.{leaf:*}",
                                "is the state of an optimizer that can't be converted: only Adam's "
                                "and Adafactor's, and momentum, can", WEIGHT_ONLY, when="scope=all")),
            Verbatim("{rest:*}"),
        ),
        config=ConfigTable(rows=(Coupled((), (), _agree, _agree), KINDS, DEFAULT)),
        variants=(SCOPE, NORMS, FP8),
        facts=(FACT,),
        measures=(
            SLOTS,
            *MEASURES,
            Measure("encoder_layers", *[("target.encoder.layers_{i}.{rest:*}", "i")] * 2),
            Measure("decoder_layers", *[("target.decoder.layers_{j}.{rest:*}", "j")] * 2),
            Measure("cross", *[("target.decoder.layers_{j}.encoder_decoder_attention.{rest:*}", "j")] * 2),
            Measure("activations", (stack + "mlp.wi_{g}.kernel", "g"), (stack + "mlp.wi_kernel", 1)),
            Measure("embed", *[("target.token_embedder.embedding", 1)] * 2),
            Measure("embed", (stack + "mlp.wo.kernel", 1), (stack + "mlp.wo_kernel", 1)),
            Measure("mlp", (stack + "mlp.wo.kernel", 0), (stack + "mlp.wo_kernel", 0)),
            Measure("joined", *[(stack + "{a:attention|self_attention}.out.kernel", 0)] * 2),
        ),
        axes={"i": "encoder_layers", "j": "decoder_layers"},
        parts=PARTS,
    )  # fmt: skip


MAPPING = t5_mapping(TE, ENCODER, DECODER)
