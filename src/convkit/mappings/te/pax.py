"""pax/lm <-> te/pax: one sub-tree per layer.

Facts: as in :mod:`convkit.mappings.te.pax_layer`; Paxml of 2024-05, ``checkpoints.py`` (names of the
optimizer's leaves: Adam's moments are slot 2 of the chain by default).
"""

from __future__ import annotations

from convkit.mapping import AnyRule, Layout, Mapping, Measure, Part, Refused, Verbatim, for_slots, under
from convkit.mappings.te.common import WEIGHT_ONLY, both_sides, where
from convkit.mappings.te.fp8 import fp8_rules
from convkit.mappings.te.pax_layer import (
    CONFIG,
    FOLDED,
    KEPT_BIASES,
    KEPT_NORMS,
    LAYER,
    PER_DIM,
    facts,
    layer_parts,
    measures,
    variants,
)

WEIGHTS = "mdl_vars.params."
#: Adam's moments, whatever their position in the chain; the count is beside them.
SLOTS = "opt_states_0_{at:0?|1?|2?|3?|4?|5?|6?|7?}.{slot}.params."
LAYERS = "lm.transformer.x_layers_{i}."
CLD = "transformerlayer.cld."
#: the softmax has a kernel of its own, or embeds the tokens, too
LOGITS = "{leaf:logits_ffn.linear.w?|embedding.emb_var?}"
#: a leaf of any layer, stacked or not
ANY_LAYER = "lm.transformer.{rest:*}"

PAX = Layout(
    name="pax/lm",
    summary="Paxml TransformerLm, one sub-tree per layer",
    format="pax",
    config_file="",
    conventions={"norm_scale": "minus-one (LayerNorm), direct (RmsNorm)", "gate": "ffn_layer1_gate"},
    keys=(f"{WEIGHTS}{LAYERS}self_attention.post.w",),
)
TE = Layout(
    name="te/pax",
    summary="Paxml TransformerLm with Transformer Engine's layers, one sub-tree per layer",
    format="pax",
    config_file="",
    conventions={"norm_scale": "variant te_norm", "gate": "variant te_release"},
    keys=(f"{WEIGHTS}{LAYERS}{CLD}attention.out.kernel",),
)


def pax_rules(layers: str, slots: str, stack: tuple[str, ...] = ()) -> tuple[AnyRule, ...]:
    """The rules for a whole checkpoint whose layers and moments have these prefixes; ``stack`` is as in FP8's rules."""
    kept_biases = [Verbatim("{all:*}" + layers + key, when="biases=kept") for key in KEPT_BIASES]
    kept_norms = [Verbatim("{all:*}" + layers + key, when="norms=kept & biases=converted") for key in KEPT_NORMS]
    kept_scales = [
        Verbatim("{all:*}" + layers + key.replace("{p:scale|bias}", "scale").replace("{p:scale|ln_bias}", "scale"),
                 when="norms=kept & biases=kept")
        for key in KEPT_NORMS
    ]  # fmt: skip
    return (
        *under(WEIGHTS + layers, WEIGHTS + layers + CLD, LAYER),
        *where("scope=all", for_slots(LAYER, ("m?", "v?"), slots + layers, slots + layers + CLD, optional=True)),
        *fp8_rules("mdl_vars.", WEIGHTS, layers + CLD, stack),
        *kept_biases,
        *kept_norms,
        *kept_scales,
        *under(WEIGHTS + layers, WEIGHTS + layers, FOLDED),
        Refused("left", "{all:*}" + PER_DIM, "scales queries that may have been rotated, so it can't be folded",
                "if they aren't rotated: --variant per_dim_scale=folded; if it is all zeros: --drop",
                when="per_dim & per_dim_scale=refused"),
        Refused("left", "{all:*}" + PER_DIM, "is a moment of a scale that is folded into queries",
                WEIGHT_ONLY, when="per_dim & scope=all"),
        Verbatim("{all:*}" + PER_DIM, when="unfolded"),
        Refused("left", WEIGHTS + layers + "self_attention.{n:key|value}.w",
                "has fewer heads than the queries, so they can't be one qkv kernel",
                "--te-qkv-layout kv_packed, or --variant te_qkv=query", when="grouped & te_qkv=qkv"),
        *both_sides(Refused("left", WEIGHTS + "lm.transformer.{p:x_layers_|repeat.}{rest:*}",
                            "isn't a leaf that Pax's and TE's layers share",
                            "name the right layouts, or drop it: --drop")),
        *both_sides(Refused("left", "opt_states_{p:*}.params.lm.transformer.{rest:*}",
                            "is the state of an optimizer that can't be converted: only Adam's moments can",
                            WEIGHT_ONLY, when="scope=all")),
        Verbatim("{rest:*}"),
    )  # fmt: skip


#: What the tree holds beside its layers, and Adam's state of each parameter, wherever it lies in the chain; Praxis's
#: own chain has Adam at 2 of 4, and each link counts. Where the weights alone were converted, the moments have kept the
#: names of the other layout.
PARTS = (
    *both_sides(Part("left", "Pax counts its steps", ("step",), needed=True)),
    *both_sides(Part("left", "the model ends in a norm", (f"{WEIGHTS}lm.final_ln.scale",), WEIGHTS + ANY_LAYER,
                     needed=True)),
    *both_sides(Part("left", "a norm has its scale", (f"{WEIGHTS}lm.final_ln.scale",), f"{WEIGHTS}lm.final_ln.bias",
                     needed=True)),
    *both_sides(Part("left", "the model has logits", (f"{WEIGHTS}lm.softmax.{LOGITS}",), WEIGHTS + ANY_LAYER,
                     needed=True)),
    *both_sides(Part("left", "the logits have a kernel", (f"{WEIGHTS}lm.softmax.logits_ffn.linear.w",),
                     f"{WEIGHTS}lm.softmax.logits_ffn.bias.b", needed=True)),
    *both_sides(Part("left", "Adam's moments", ("opt_states_{at:*}.{slot:m|v}.params.{leaf:*}",),
                     f"{WEIGHTS}{{leaf:*}}", when="scope=all")),
    *both_sides(Part("left", "Adam counts its steps", ("opt_states_{at:*}.count",),
                     "opt_states_{at:*}.{slot:m|v}.params.{leaf:*}", needed=True)),
    *both_sides(Part("left", "the chain around Adam counts", ("opt_states_{chain:*}_{at:0|1|2|3}.count",),
                     "opt_states_{chain:*}_2.m.params.{leaf:*}", needed=True)),
    *both_sides(Part("left", "an optimizer that counts has slots", ("opt_states_{at:*}.{slot:*}.params.{leaf:*}",),
                     "opt_states_{n:*}.count", needed=True)),
)  # fmt: skip


def at(prefix: str) -> tuple[str, str]:
    """The prefixes of the layers' weights in Pax and in TE."""
    return WEIGHTS + prefix, WEIGHTS + prefix + CLD


MAPPING = Mapping(
    left=PAX,
    right=TE,
    rules=pax_rules(LAYERS, SLOTS),
    config=CONFIG,
    variants=variants(*at(LAYERS)),
    facts=facts(*at(LAYERS)),
    measures=(
        Measure("layers", *[(f"{WEIGHTS}{LAYERS}{{rest:*}}", "i")] * 2),
        Measure("kv_last", (f"{WEIGHTS}{LAYERS}self_attention.key.w", 2), None),
        *measures(*at(LAYERS)),
    ),
    axes={"i": "layers"},
    parts=(*PARTS, *layer_parts(WEIGHTS + LAYERS)),
)
