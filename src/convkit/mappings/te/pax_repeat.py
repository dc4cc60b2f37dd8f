"""pax/lm-repeat <-> te/pax-repeat: all layers in one sub-tree, stacked on the first axis.

Facts: as in :mod:`convkit.mappings.te.pax`; Praxis at feeaff1, ``optimizer_prefix_vectorization.py``: the
optimizer's leaves of stacked parameters lie under ``p#<layers>#<sharding>``, the others under ``no_prefix``. The
sharding is ``i-1`` (none), ``smdl`` (over one axis of the mesh), ``tsdata,smdl`` (over several); the optimizer's
follows after another ``#`` if it differs.
"""

from __future__ import annotations

from msgspec.structs import replace

from convkit.mapping import Mapping, Measure
from convkit.mappings.te.pax import CLD, PARTS, PAX, TE, WEIGHTS, at, pax_rules
from convkit.mappings.te.pax_layer import CONFIG, facts, layer_parts, measures, variants

LAYERS = "lm.transformer.repeat.sub.x_layers_0."
#: the layers' axis unsharded, or sharded over axes of Pax's mesh; the optimizer's may differ
_MESH = ("", "i-1", "sreplica", "sdata", "smdl", "tsreplica,sdata", "tsreplica,smdl", "tsdata,smdl",
         "tsreplica,sdata,smdl")  # fmt: skip
_SHARDED = (*(f"#{its}" for its in _MESH), *(f"#{its}#{other}" for its in _MESH for other in _MESH[2:]))
SHARDING = f"{{sharding:{'|'.join(f'{sharded}?' for sharded in _SHARDED)}}}"
SLOTS = f"opt_states_0.p#{{=layers}}{SHARDING}_" + "{at:0?|1?|2?|3?|4?|5?|6?|7?}.{slot}.params."

REPEAT = replace(
    PAX,
    name="pax/lm-repeat",
    summary="Paxml TransformerLm, layers stacked",
    keys=(f"{WEIGHTS}{LAYERS}self_attention.post.w",),
)
TE_REPEAT = replace(
    TE,
    name="te/pax-repeat",
    summary="Paxml TransformerLm with Transformer Engine's layers, layers stacked",
    keys=(f"{WEIGHTS}{LAYERS}{CLD}attention.out.kernel",),
)

MAPPING = Mapping(
    left=REPEAT,
    right=TE_REPEAT,
    rules=pax_rules(LAYERS, SLOTS, ("layers",)),
    config=CONFIG,
    variants=variants(*at(LAYERS)),
    facts=facts(*at(LAYERS)),
    measures=(
        Measure("layers", (REPEAT.keys[0], 0), (TE_REPEAT.keys[0], 0)),
        Measure("kv_last", (f"{WEIGHTS}{LAYERS}self_attention.key.w", 3), None),
        *measures(*at(LAYERS)),
    ),
    parts=(*PARTS, *layer_parts(WEIGHTS + LAYERS)),
)
