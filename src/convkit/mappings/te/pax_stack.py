"""pax/lm <-> pax/lm-repeat: one sub-tree per layer, or all layers stacked on a first axis.

Facts: Paxml of 2024-05, ``trainer_lib.py`` and ``optimizer_prefix_vectorization.py``: the optimizer's leaves of
stacked parameters lie under ``p#<layers>#i-1``, the others under ``no_prefix``; a chain's counts are in both, and each
layer has its own.
"""

from __future__ import annotations

from convkit.mapping import Derived, Mapping, Measure, Refused, Rule, Verbatim
from convkit.mappings.te.common import both_sides
from convkit.mappings.te.pax import LAYERS, PARTS, PAX, WEIGHTS
from convkit.mappings.te.pax_repeat import LAYERS as STACKED
from convkit.mappings.te.pax_repeat import REPEAT

#: the leaves of a layer, which all layers share
LEAVES = "{p:" + "|".join(
    f"{name}?"
    for name in (
        "layer_norm.scale", "layer_norm.bias", "ff_layer.layer_norm.scale", "ff_layer.layer_norm.bias",
        "ff_layer.ffn_layer1.linear.w", "ff_layer.ffn_layer1.bias.b", "ff_layer.ffn_layer1_gate.linear.w",
        "ff_layer.ffn_layer1_gate.bias.b", "ff_layer.ffn_layer2.linear.w", "ff_layer.ffn_layer2.bias.b",
        "self_attention.combined_qkv.w", "self_attention.combined_qkv.b", "self_attention.query.w",
        "self_attention.query.b", "self_attention.key.w", "self_attention.key.b", "self_attention.value.w",
        "self_attention.value.b", "self_attention.post.w", "self_attention.post.b",
        "self_attention.per_dim_scale.per_dim_scale",
    )
) + "}"  # fmt: skip
OTHERS = (
    "{o:lm.final_ln.scale?|lm.final_ln.bias?|lm.softmax.logits_ffn.linear.w?|lm.softmax.logits_ffn.bias.b?|"
    "lm.softmax.embedding.emb_var?|lm.position_emb.emb_var?|lm.embedding_lookup.emb_var?}"
)
AT = "{at:0?|1?|2?|3?|4?|5?|6?|7?}"
SLOT = "{slot:m?|v?}.params."

MAPPING = Mapping(
    left=PAX,
    right=REPEAT,
    rules=(
        Rule(f"{WEIGHTS}{LAYERS}{LEAVES}", f"{WEIGHTS}{STACKED}{LEAVES}", "i ... -> i ..."),
        Rule(f"opt_states_0_{AT}.{SLOT}{LAYERS}{LEAVES}",
             f"opt_states_0.p#{{=layers}}#i-1_{AT}.{SLOT}{STACKED}{LEAVES}", "i ... -> i ...", optional=True),
        Rule(f"opt_states_0_{AT}.{SLOT}{OTHERS}", f"opt_states_0.no_prefix_{AT}.{SLOT}{OTHERS}", optional=True),
        Rule(f"opt_states_0_{AT}.count", f"opt_states_0.no_prefix_{AT}.count", optional=True),
        Derived("right", f"opt_states_0.p#{{=layers}}#i-1_{AT}.count", "repeated",
                of=(f"opt_states_0.no_prefix_{AT}.count",), shape=("layers",), proven=True),
        *both_sides(Refused("left", "opt_states_{rest:*}", "is the state of an optimizer that isn't supported",
                            "leave the optimizer's state: --drop 'opt_states_*'")),
        *both_sides(Refused("left", "{rest:*}.lm.transformer.{leaf:*}", "isn't a known leaf of a Pax layer",
                            "drop it: --drop")),
        Verbatim("{rest:*}"),
    ),
    measures=(Measure("layers", (f"{WEIGHTS}{LAYERS}{{rest:*}}", "i"), (REPEAT.keys[0], 0)),),
    axes={"i": "layers"},
    parts=tuple(part.changed(when="") for part in PARTS),
)  # fmt: skip
