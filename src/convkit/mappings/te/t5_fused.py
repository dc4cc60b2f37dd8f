"""t5x/t5 <-> te/t5-fused: fused qkv in self attention, fused kv in cross attention.

Facts: as in :mod:`convkit.mappings.te.t5`; TransformerEngine, ``jax/flax/transformer.py``: fused self
attention has ``qkv.kernel [embed, 3, heads*dim]``, fused cross attention ``kv.kernel [embed, 2, heads*dim]``.
"""

from __future__ import annotations

from msgspec.structs import replace

from convkit.mapping import Rule
from convkit.mappings.te.common import where
from convkit.mappings.te.t5 import CROSS_NORM, MLP, TE, t5_mapping

FUSED = replace(
    TE,
    name="te/t5-fused",
    summary="T5X with Transformer Engine's layers, fused query, key and value",
    keys=(TE.keys[0], "target.{s:encoder|decoder}.layers_{i}.{a:attention|self_attention}.qkv.kernel"),
)


def _fused(attention: str, norm: str) -> tuple[Rule, ...]:
    return (
        Rule(f"{attention}.{{n:query|key|value}}.kernel", f"{attention}.qkv.kernel", "n e h -> e n h"),
        Rule(f"{attention}.out.kernel", f"{attention}.out.kernel"),
        *where("norms=converted", [Rule(f"{norm}.scale", f"{attention}.qkv.scale")]),
    )


CROSS = (
    Rule("encoder_decoder_attention.{n:query|out}.kernel", "encoder_decoder_attention.{n}.kernel"),
    Rule("encoder_decoder_attention.{n:key|value}.kernel", "encoder_decoder_attention.kv.kernel", "n e h -> e n h"),
    *CROSS_NORM,
)

MAPPING = t5_mapping(
    FUSED,
    encoder=(*_fused("attention", "pre_attention_layer_norm"), *MLP),
    decoder=(*_fused("self_attention", "pre_self_attention_layer_norm"), *where("cross>0", CROSS), *MLP),
)
