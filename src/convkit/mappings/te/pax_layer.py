"""The rules between a Pax language model's layer and TE's ``TransformerLayer``, for all Pax mappings.

Facts: JAX-Toolbox 3e33819f, ``paxml_converters.py`` (names and shapes of both sides; [linear, gate] in the halves of
``wi_kernel``), and its Praxis patches ``te_helper`` (``zero_centered_gamma = not direct_scale``);
TransformerEngine 086a12fe9 (release 1.8 reverses ``('linear', act)``, so the gate is first);
Praxis of 2024-05, ``layers/{attentions,grouped_query_attention,transformers,normalizations}.py``.

Shapes (Pax | TE), with width D, H heads of size d, G key and value heads, and intermediate size M::

    combined_qkv.w (3,D,H,d)           | attention.qkv.kernel (D,3,H*d)
    query.w (D,H,d), key.w (D,G,d)     | attention.query.kernel (D,H*d), attention.kv.kernel (D,2,G*d)
    key.w (D,d) if G = 1            |
    post.w (D,H,d)                     | attention.out.kernel (H*d,D)
    ffn_layer1.linear.w (D,M)          | mlp.wi_kernel (D,1,M), gated (D,2,M)
    ffn_layer2.linear.w (M,D)          | mlp.wo_kernel (M,D)

``...`` is the axis of stacked layers (``repeat``), or nothing; D is the axis along which the original converter chunks.
"""

from __future__ import annotations

from typing import Any

from convkit.config import Answer, ConfigTable, Coupled
from convkit.errors import ConfigError
from convkit.mapping import Fact, Folded, Measure, Part, Rule, Variant
from convkit.mapping.ops import Shift
from convkit.mappings.te.common import BIASES, NORMS, SCOPE, split_heads, where
from convkit.mappings.te.fp8 import DEFAULT, FP8, SLOTS

SIZES: dict[str, Any] = {"h": "heads", "k": "head_dim"}
PAX_QKV, QKV = "self_attention.combined_qkv", "attention.qkv"
SPLIT = "self_attention.{n:query|key|value}"
QUERY, KV = "self_attention.query", "self_attention.{n:key|value}"
GATED = ("{g:ffn_layer1_gate|ffn_layer1}", "{g:ffn_layer1|ffn_layer1_gate}")
CONVERTED = "biases=converted"

KERNELS = (
    *where("pax_qkv=combined_qkv & te_qkv=qkv",
           [Rule(f"{PAX_QKV}.w", f"{QKV}.kernel", "... n D h k -> ... D n (h k)", n=3, **SIZES)]),
    *where("pax_qkv=combined_qkv & te_qkv=query",
           [Rule(f"{PAX_QKV}.w", "attention.{t:query|kv}.kernel",
                 "... (1 + n) D h k -> query: ... D (h k) | kv: ... D n (h k)", n=2, **SIZES)]),
    *where("pax_qkv=query & te_qkv=qkv & !grouped",
           [Rule(f"{SPLIT}.w", f"{QKV}.kernel", "n ... D h k -> ... D n (h k)", **SIZES)]),
    *where("pax_qkv=query & te_qkv=query",
           [Rule(f"{QUERY}.w", "attention.query.kernel", "... D h k -> ... D (h k)", **SIZES),
            *where("!flat", [Rule(f"{KV}.w", "attention.kv.kernel", "n ... D g k -> ... D n (g k)", k="head_dim")]),
            *where("flat", [Rule(f"{KV}.w", "attention.kv.kernel", "n ... D k -> ... D n k", k="head_dim")])]),
    Rule("self_attention.post.w", "attention.out.kernel", "... D h k -> ... (h k) D", **SIZES),
    *where("activations<2", [Rule("ff_layer.ffn_layer1.linear.w", "mlp.wi_kernel", "... D f -> ... D 1 f")]),
    *where("activations>1 & te_release=1.8",
           [Rule(f"ff_layer.{GATED[0]}.linear.w", "mlp.wi_kernel", "g ... D f -> ... D g f")]),
    *where("activations>1 & te_release=1.0",
           [Rule(f"ff_layer.{GATED[1]}.linear.w", "mlp.wi_kernel", "g ... D f -> ... D g f")]),
    Rule("ff_layer.ffn_layer2.linear.w", "mlp.wo_kernel", "... f D -> ... f D"),
)  # fmt: skip

BIAS_RULES = (
    *where("pax_qkv=combined_qkv & te_qkv=qkv",
           [Rule(f"{PAX_QKV}.b", f"{QKV}.bias", "... n h k -> ... n (h k)", n=3, **SIZES)]),
    *where("pax_qkv=combined_qkv & te_qkv=query",
           [Rule(f"{PAX_QKV}.b", "attention.{t:query|kv}.bias",
                 "... (1 + n) h k -> query: ... (h k) | kv: ... n (h k)", n=2, **SIZES)]),
    *where("pax_qkv=query & te_qkv=qkv & !grouped",
           [Rule(f"{SPLIT}.b", f"{QKV}.bias", "n ... h k -> ... n (h k)", **SIZES)]),
    *where("pax_qkv=query & te_qkv=query",
           [Rule(f"{QUERY}.b", "attention.query.bias", "... h k -> ... (h k)", **SIZES),
            *where("!flat", [Rule(f"{KV}.b", "attention.kv.bias", "n ... g k -> ... n (g k)", k="head_dim")]),
            *where("flat", [Rule(f"{KV}.b", "attention.kv.bias", "n ... k -> ... n k", k="head_dim")])]),
    Rule("self_attention.post.b", "attention.out.bias"),
    *where("activations<2", [Rule("ff_layer.ffn_layer1.bias.b", "mlp.wi_bias", "... f -> ... 1 f")]),
    *where("activations>1 & te_release=1.8",
           [Rule(f"ff_layer.{GATED[0]}.bias.b", "mlp.wi_bias", "g ... f -> ... g f")]),
    *where("activations>1 & te_release=1.0",
           [Rule(f"ff_layer.{GATED[1]}.bias.b", "mlp.wi_bias", "g ... f -> ... g f")]),
    Rule("ff_layer.ffn_layer2.bias.b", "mlp.wo_bias"),
)  # fmt: skip

#: The fused norms, by their names in Pax and in TE: attention's norm is part of the first kernel's module.
_NORMS = (("layer_norm", "attention.{=te_qkv}"), ("ff_layer.layer_norm", "mlp"))
SCALES = (
    *where("te_norm=stored", [Rule(f"{pax}.scale", f"{te}.scale") for pax, te in _NORMS]),
    *where("te_norm=direct & layernorm", [Rule(f"{p}.scale", f"{t}.scale", ops=(Shift(1.0),)) for p, t in _NORMS]),
    *where("te_norm=direct & !layernorm", [Rule(f"{pax}.scale", f"{te}.scale") for pax, te in _NORMS]),
)
OFFSETS = tuple(Rule(f"{pax}.bias", f"{te}.ln_bias", optional=True) for pax, te in _NORMS)

#: TE has no per-dimension scale: queries are multiplied by it, which their moments can't reflect.
PER_DIM = "self_attention.per_dim_scale.per_dim_scale"
FOLDED = tuple(
    Folded("left", f"self_attention.{leaf}", PER_DIM, "per-dim scale", {"parts": parts},
           when=f"per_dim & per_dim_scale=folded & {condition}")
    for leaf, parts, condition in (
        ("combined_qkv.w", 3, "pax_qkv=combined_qkv"), ("combined_qkv.b", 3, f"pax_qkv=combined_qkv & {CONVERTED}"),
        ("query.w", 1, "pax_qkv=query"), ("query.b", 1, f"pax_qkv=query & {CONVERTED}"),
    )
)  # fmt: skip

LAYER = (
    *KERNELS,
    *where(CONVERTED, [rule.changed(optional=True) for rule in BIAS_RULES]),
    *where("norms=converted", [*SCALES, *where(CONVERTED, OFFSETS)]),
)

#: Leaves that ``--skip-bias`` and ``--skip-ln`` keep as they are, on either side.
KEPT_BIASES = (
    "self_attention.{n:combined_qkv|query|key|value|post}.b",
    "ff_layer.{n:ffn_layer1|ffn_layer1_gate|ffn_layer2}.bias.b", "layer_norm.bias", "ff_layer.layer_norm.bias",
    "transformerlayer.cld.attention.{n:qkv|query|kv|out}.bias",
    "transformerlayer.cld.mlp.{n:wi|wo}_bias", "transformerlayer.cld.{n:attention.qkv|attention.query|mlp}.ln_bias",
)  # fmt: skip
KEPT_NORMS = (
    "layer_norm.{p:scale|bias}", "ff_layer.layer_norm.{p:scale|bias}",
    "transformerlayer.cld.{n:attention.qkv|attention.query|mlp}.{p:scale|ln_bias}",
)  # fmt: skip


def _packed(names: dict[str, Any]) -> str:
    return "query" if names["grouped"] else "qkv"


def _combined(names: dict[str, Any]) -> str:
    return "query" if names["te_qkv"] == "query" else "combined_qkv"


def _foldable(names: dict[str, Any]) -> str:
    """Don't fold scales if queries are rotated before scaling, as models with RmsNorm or grouped keys usually do."""
    return "folded" if names["layernorm"] and names["kv_heads"] == names["heads"] else "refused"


def layer_parts(layer: str) -> tuple[Part, ...]:
    """What the leaves of a layer below this prefix need of each other, in Pax and in TE."""
    cld = f"{layer}transformerlayer.cld."
    linears = "ff_layer.{n:ffn_layer1|ffn_layer1_gate|ffn_layer2}"
    no_bias, no_gate = "a model may have no biases", "a feed-forward part may have no gate"
    return (
        Part("left", "biases", (f"{layer}{linears}.bias.b",), f"{layer}{linears}.linear.w", lack=no_bias),
        Part("left", "biases", (f"{layer}self_attention.{{n:combined_qkv|query|key|value|post}}.b",),
             f"{layer}self_attention.{{n:combined_qkv|query|key|value|post}}.w", lack=no_bias),
        Part("left", "gates", (f"{layer}ff_layer.ffn_layer1_gate.linear.w",), f"{layer}ff_layer.ffn_layer1.linear.w",
             lack=no_gate),
        Part("left", "norms", (f"{layer}{{n:layer_norm|ff_layer.layer_norm}}.bias",),
             f"{layer}{{n:layer_norm|ff_layer.layer_norm}}.scale", lack="an RmsNorm has no offset", when=CONVERTED),
        Part("right", "biases", (f"{cld}attention.{{n:qkv|query|kv|out}}.bias",),
             f"{cld}attention.{{n:qkv|query|kv|out}}.kernel", lack=no_bias, when=CONVERTED),
        Part("right", "biases", (f"{cld}mlp.{{n:wi|wo}}_bias",), f"{cld}mlp.{{n:wi|wo}}_kernel", lack=no_bias,
             when=CONVERTED),
        Part("right", "norms", (f"{cld}{{n:attention.qkv|attention.query|mlp}}.ln_bias",),
             f"{cld}{{n:attention.qkv|attention.query|mlp}}.scale", lack="an RmsNorm has no offset", when=CONVERTED),
    )  # fmt: skip


def variants(pax: str, te: str) -> tuple[Variant, ...]:
    """The variants of a checkpoint whose layers' parameters have these prefixes. ``te_release`` is the first TE release
    with this order of the gated halves. ``te_norm`` says whether TE has the scales as Pax stores them (zero-centered if
    they are stored minus one, as NVIDIA's Pax helper configures) or direct ones.
    """
    return (
        Variant("pax_qkv", "left", ("combined_qkv", "query"), f"{pax}self_attention.{{=pax_qkv}}.w", usual=_combined),
        Variant("te_qkv", "right", ("qkv", "query"), f"{te}attention.{{=te_qkv}}.kernel", usual=_packed),
        Variant("te_release", "right", ("1.8", "1.0")),
        Variant("te_norm", "right", ("stored", "direct")),
        SCOPE,
        NORMS,
        BIASES,
        FP8,
        Variant("per_dim_scale", "right", ("folded", "refused"), usual=_foldable),
    )


def facts(pax: str, te: str) -> tuple[Fact, ...]:
    """Facts: LayerNorm has offsets, RmsNorm has none; whether there is a per-dimension scale, even in TE, where another
    tool may have left it. On either side a LayerNorm's offset may have kept the other side's name.
    """
    cld = te.removeprefix(pax)
    fused = [f"{cld}{norm}.ln_bias" for norm in ("attention.qkv", "attention.query", "mlp")]
    offset = f"{pax}{{offset:{'|'.join(['layer_norm.bias', *fused])}}}"
    return (
        Fact("layernorm", offset, offset),
        Fact("per_dim", f"{pax}{PER_DIM}", ""),
        Fact("unfolded", "", f"{pax}{PER_DIM}"),
    )


def measures(pax: str, te: str) -> tuple[Measure, ...]:
    """Sizes measured from the shapes, by the last axes so that stacked layers give the same."""
    return (
        Measure("heads", (f"{pax}self_attention.post.w", -2), None),
        Measure("head_dim", (f"{pax}self_attention.post.w", -1), None),
        Measure("embed", (f"{pax}self_attention.post.w", -3), (f"{te}attention.out.kernel", -1)),
        Measure("joined", None, (f"{te}attention.out.kernel", -2)),
        Measure("kv_rows", (f"{pax}self_attention.key.w", -2), None),
        Measure("kv_joined", None, (f"{te}attention.kv.kernel", -1)),
        Measure("mlp", (f"{pax}ff_layer.ffn_layer2.linear.w", -2), (f"{te}mlp.wo_kernel", -2)),
        SLOTS,
        Measure("activations", (f"{pax}ff_layer.{GATED[0]}.linear.w", "g"), (f"{te}mlp.wi_kernel", -2)),
    )


def _warned(_: dict[str, Any], names: dict[str, Any]) -> Answer:
    if names["per_dim"]:
        return Answer(warnings=("per-dim scales are folded into the queries: correct unless they are rotated before",))
    if names["unfolded"]:
        return Answer(warnings=("per-dim scales come back, though this TE model didn't apply them",))
    return Answer()


def _heads_of_pax(_: dict[str, Any], names: dict[str, Any]) -> Answer:
    if "heads" not in names:
        raise ConfigError("has no self_attention.post.w", remedy="name the right layouts: --from, --to")
    if names["pax_qkv"] == "combined_qkv":
        return Answer(names={"flat": False, "grouped": False, "kv_heads": _agreed(names, names["heads"])})
    flat = "kv_last" not in names
    kv_heads = _agreed(names, 1 if flat else names["kv_rows"])
    return Answer(names={"flat": flat, "grouped": flat or kv_heads != names["heads"], "kv_heads": kv_heads})


def _heads_of_te(_: dict[str, Any], names: dict[str, Any]) -> Answer:
    if "joined" not in names:
        raise ConfigError("has no attention.out.kernel", remedy="name the right layouts: --from, --to")
    heads, head_dim = split_heads(names)
    if heads is None or head_dim is None:
        raise ConfigError(
            f"the number of heads is unknown: they are joined to {names['joined']}",
            remedy="add --num-of-head, or --size heads=N; the receipt of the conversion to TE has it, too",
        )
    kv_joined = names.get("kv_joined", names["joined"])
    if kv_joined % head_dim:
        raise ConfigError(f"heads of {head_dim} don't divide the keys' {kv_joined}", remedy="correct the sizes")
    kv_heads = _agreed(names, kv_joined // head_dim)
    flat = names["te_qkv"] == "query" and kv_heads == 1 and "kv_last" not in names
    grouped = flat or kv_heads != heads
    found = {"heads": heads, "head_dim": head_dim, "kv_heads": kv_heads, "flat": flat, "grouped": grouped}
    return Answer(names=found)


def _agreed(names: dict[str, Any], kv_heads: int) -> int:
    if names.get("kv_heads", kv_heads) != kv_heads:
        raise ConfigError(
            f"has {kv_heads} heads of keys and values, not {names['kv_heads']}",
            remedy="correct --num-gqa-groups (--size kv_heads=N), or leave it out",
        )
    return kv_heads


#: There is no config: these names follow from the shapes and the user's sizes. Praxis has no axis for a single head of
#: keys and values (``flat``), which only ``kv_last`` shows.
CONFIG = ConfigTable(rows=(Coupled((), (), _heads_of_pax, _heads_of_te), Coupled((), (), _warned, _warned), DEFAULT))
