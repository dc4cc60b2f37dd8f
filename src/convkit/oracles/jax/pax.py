"""Paxml's TransformerLm: LayerNorm and GELU with sinusoidal positions, or LLaMA-like; also with TE's layers.

Source: Praxis of 2024-05, ``layers/{transformer_models,transformers,attentions,grouped_query_attention,
normalizations,embedding_softmax}.py``; JAX-Toolbox's ``te_helper`` (how TE is configured: scores scaled,
``zero_centered_gamma`` for LayerNorm); TransformerEngine v1.5 ... v2.2, ``jax/flax/module.py``.

The config holds the facts that tensors can't show, from a conversion's receipt or from the user: ``heads`` (of TE's
joined kernels), ``te_release`` (1.8: the activated half is first), ``te_norm``
(``stored``, or ``direct``), ``activation``, ``positions`` (``sinusoidal``, ``rotary``, or both with a ``+``),
``eps``. By default, a gated model with RmsNorm has SiLU; one with RmsNorm or grouped keys has rotary positions; and all
have sinusoids, which Praxis adds unless it is configured not to.

A LayerNorm's scale is stored minus one: its role ends in ``excess``, where a direct one's ends in ``weight``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from convkit.errors import ConvkitError
from convkit.oracles.jax.model import (
    POSITIONS,
    JaxOracle,
    causal,
    compiled,
    heads_of,
    normalised,
    to_jax,
    to_torch,
)
from convkit.oracles.oracle import Facts, State, Trace
from convkit.oracles.stacks import Stack
from convkit.oracles.tensors import shape_of

if TYPE_CHECKING:
    from jax import Array
    from torch import Tensor

EPS = 1e-6
#: r_softplus_0 of Praxis: 1 / softplus(0), as it writes it
PER_DIM = 1.442695041


class PaxLm(JaxOracle, Stack):
    """``mdl_vars.params.lm.*`` of a Pax checkpoint, one sub-tree per layer."""

    layout = "pax/lm"
    weights = "mdl_vars.params.lm."
    stacked = False

    def claim(self) -> None:
        """See :meth:`JaxOracle.claim`."""
        self.width, vocab = self.shape("softmax.logits_ffn.linear.w")
        self.give("embedding.weight", "softmax.logits_ffn.linear.w", ins=(0,))
        self.roles["head.lm.weight"] = self.roles["embedding.weight"]
        if self.has("softmax.logits_ffn.bias.b"):
            self.give("head.lm.bias", "softmax.logits_ffn.bias.b")
        layers = self.depth()
        self.heads, self.head_dim = self.sizes()
        for i in range(layers):
            self.give_layer(i)
        self.centred = "layers.0.norm_attention.bias" in self.roles
        self.gated = "layers.0.gate.weight" in self.roles
        self.give_norm("norm_final.", "final_ln.", "bias", direct=not self.has("final_ln.bias"))
        kv_heads = self.part_shape("layers.0.k.weight")[0] // self.head_dim
        usual = "sinusoidal" if self.centred and kv_heads == self.heads else "sinusoidal+rotary"
        self.positions = self.config.get("positions", usual).split("+")
        rotary = "rotary" in self.positions
        self.facts = Facts(
            layers, self.heads, kv_heads, vocab, POSITIONS, tied=True,
            rotary="half" if rotary else "", rotary_dim=self.head_dim if rotary else 0,
        )  # fmt: skip

    def depth(self) -> int:
        """Number of layers."""
        return self.layers("transformer.x_layers_")

    def at(self, i: int) -> tuple[str, tuple[int, ...]]:
        """A layer's prefix, and its index on the axis of stacked layers."""
        return f"transformer.x_layers_{i}.", ()

    def sizes(self) -> tuple[int, int]:
        """The number of heads and their size."""
        return self.shape(f"{self.at(0)[0]}self_attention.post.w")[-2:]  # type: ignore[return-value]

    def give_layer(self, i: int) -> None:
        """Roles of a layer: kernels ``[in, ...out]``, ``post.w [out, heads, dim]``."""
        (at, n), role = self.at(i), f"layers.{i}."
        attention = f"{at}self_attention."
        combined = self.has(f"{attention}combined_qkv.w")
        for index, (part, name) in enumerate((("q", "query"), ("k", "key"), ("v", "value"))):
            key, where = (f"{attention}combined_qkv.", (*n, index)) if combined else (f"{attention}{name}.", n)
            self.give(f"{role}{part}.weight", f"{key}w", at=where, ins=(0,))
            if self.has(f"{key}b"):
                self.give(f"{role}{part}.bias", f"{key}b", at=where)
        if self.has(f"{attention}per_dim_scale.per_dim_scale"):
            self.give(f"{role}per_dim", f"{attention}per_dim_scale.per_dim_scale", at=n)
        self.give(f"{role}o.weight", f"{attention}post.w", at=n, ins=(1, 2))
        gated = self.has(f"{at}ff_layer.ffn_layer1_gate.linear.w")
        names = {"up": "ffn_layer1", "down": "ffn_layer2"} | ({"gate": "ffn_layer1_gate"} if gated else {})
        for part, name in names.items():
            self.give(f"{role}{part}.weight", f"{at}ff_layer.{name}.linear.w", at=n, ins=(0,))
            if self.has(f"{at}ff_layer.{name}.bias.b"):
                self.give(f"{role}{part}.bias", f"{at}ff_layer.{name}.bias.b", at=n)
        if self.has(f"{attention}post.b"):
            self.give(f"{role}o.bias", f"{attention}post.b", at=n)
        direct = not self.has(f"{at}layer_norm.bias")
        self.give_norm(f"{role}norm_attention.", f"{at}layer_norm.", "bias", direct, n)
        self.give_norm(f"{role}norm_ffn.", f"{at}ff_layer.layer_norm.", "bias", direct, n)

    def give_norm(self, role: str, key: str, offset: str, direct: bool, at: tuple[int, ...] = ()) -> None:
        """Roles of a norm: its scale, and its offset if it has one."""
        self.give(f"{role}{'weight' if direct else 'excess'}", f"{key}scale", at=at)
        if self.has(f"{key}{offset}"):
            self.give(f"{role}bias", f"{key}{offset}", at=at)

    @property
    def activation(self) -> str:
        """The config's activation; by default SiLU for a LLaMA-like model, else GELU."""
        return self.config.get("activation", "silu" if self.gated and not self.centred else "gelu")

    def start(self, inputs: Mapping[str, Tensor]) -> State:
        """See :meth:`Oracle.start`; the model attends causally."""
        return State({}, {"ids": inputs["input_ids"].numpy()})

    def before(self, given: Mapping[str, Any]) -> Tensor:
        """See :meth:`Stack.before`."""
        x = self.rows("embedding.weight", given["ids"])
        return to_torch(x + sinusoids(x.shape[1], self.width) if "sinusoidal" in self.positions else x)

    def layer(self, i: int, x: Tensor, given: Mapping[str, Any], trace: Trace) -> Tensor:
        """See :meth:`Stack.layer`."""
        hidden = to_jax(x)
        hidden = hidden + self.attention(i, hidden, causal(x.shape[1]), trace)
        return to_torch(hidden + self.feed_forward(i, hidden, trace))

    def after(self, x: Tensor, given: Mapping[str, Any], trace: Trace) -> Tensor:
        """See :meth:`Stack.after`."""
        hidden = self.norm("norm_final", to_jax(x))
        trace.state("final", to_torch(hidden))
        trace.outputs["lm"] = to_torch(self.linear("head.lm", hidden))
        return trace.states["final"]

    def norm(self, role: str, x: Array) -> Array:
        """LayerNorm if there is an offset, else RMS norm."""
        stored = f"{role}.excess" in self.roles
        scale = self.array(f"{role}.{'excess' if stored else 'weight'}")
        offset = self.array(f"{role}.bias") if f"{role}.bias" in self.roles else None
        eps = float(self.config.get("eps", EPS))
        return normalised(x, 1 + scale if stored else scale, offset, eps, centred=offset is not None)

    def placed(self, i: int, q: Array, k: Array) -> tuple[Array, Array]:
        """See :meth:`JaxOracle.placed`."""
        if self.facts.rotary:
            q, k = (rotated(x, self.theta, head_dim=self.head_dim) for x in (q, k))
        role = f"layers.{i}.per_dim"
        return scaled(q, self.array(role) if role in self.roles else None, head_dim=self.head_dim), k

    def wrong_configs(self) -> dict[str, dict[str, Any]]:
        """See :meth:`Oracle.wrong_configs`."""
        wrong: dict[str, Any] = {
            "wrong activation": {"activation": "relu" if self.activation != "relu" else "gelu"},
            "wrong norm epsilon": {"eps": 1e-3},
            "wrong positions": {"positions": "sinusoidal" if self.facts.rotary else "sinusoidal+rotary"},
        }
        return {name: {**self.config, **change} for name, change in wrong.items()}


class PaxLmRepeat(PaxLm):
    """The same model with all layers stacked on the first axis."""

    layout = "pax/lm-repeat"

    def depth(self) -> int:
        """See :meth:`PaxLm.depth`."""
        key = next((key for key in self.tensors if key.startswith(f"{self.weights}{self.at(0)[0]}")), None)
        if key is None:
            raise ConvkitError("has no stacked layers", path=self.path, remedy=f"is this a {self.layout} checkpoint?")
        return shape_of(self.tensors, key)[0]

    def at(self, i: int) -> tuple[str, tuple[int, ...]]:
        """See :meth:`PaxLm.at`."""
        return "transformer.repeat.sub.x_layers_0.", (i,)


class TePax(PaxLm):
    """The same model with TE's layers: joined kernels, fused qkv or kv, both halves of a gated layer in one tensor."""

    layout = "te/pax"

    def sizes(self) -> tuple[int, int]:
        """See :meth:`PaxLm.sizes`.

        Raises:
            ConvkitError: the number of heads is unknown.
        """
        joined = self.shape(f"{self.at(0)[0]}transformerlayer.cld.attention.out.kernel")[-2]
        if "heads" not in self.config:
            raise ConvkitError(
                "the number of heads is unknown", path=self.path, key="heads", remedy='add it to a config: {"heads": N}'
            )
        return self.config["heads"], joined // self.config["heads"]

    def give_layer(self, i: int) -> None:
        """See :meth:`PaxLm.give_layer`."""
        (prefix, layer), role = self.at(i), f"layers.{i}."
        at = f"{prefix}transformerlayer.cld."
        width = (*layer, None)
        if packed := self.has(f"{at}attention.qkv.kernel"):
            parts: dict[str, tuple[str, tuple[int, ...]]] = {part: ("qkv", (n,)) for n, part in enumerate("qkv")}
        else:
            parts = {"q": ("query", ()), "k": ("kv", (0,)), "v": ("kv", (1,))}
        for part, (name, index) in parts.items():
            self.give(f"{role}{part}.weight", f"{at}attention.{name}.kernel", at=(*width, *index), ins=(0,))
            if self.has(f"{at}attention.{name}.bias"):
                self.give(f"{role}{part}.bias", f"{at}attention.{name}.bias", at=(*layer, *index))
        self.give(f"{role}o.weight", f"{at}attention.out.kernel", at=layer, ins=(0,))
        gated = self.shape(f"{at}mlp.wi_kernel")[-2] == 2
        order = ("gate", "up") if self.config.get("te_release", "1.8") == "1.8" else ("up", "gate")
        for half, part in enumerate(order if gated else ("up",)):
            self.give(f"{role}{part}.weight", f"{at}mlp.wi_kernel", at=(*width, half), ins=(0,))
            if self.has(f"{at}mlp.wi_bias"):
                self.give(f"{role}{part}.bias", f"{at}mlp.wi_bias", at=(*layer, half))
        self.give(f"{role}down.weight", f"{at}mlp.wo_kernel", at=layer, ins=(0,))
        for part, key in (("o", f"{at}attention.out.bias"), ("down", f"{at}mlp.wo_bias")):
            if self.has(key):
                self.give(f"{role}{part}.bias", key, at=layer)
        first = f"{at}attention.{'qkv' if packed else 'query'}."
        direct = self.config.get("te_norm") == "direct" or not self.has(f"{first}ln_bias")
        self.give_norm(f"{role}norm_attention.", first, "ln_bias", direct, layer)
        self.give_norm(f"{role}norm_ffn.", f"{at}mlp.", "ln_bias", direct, layer)

    def wrong_configs(self) -> dict[str, dict[str, Any]]:
        """See :meth:`Oracle.wrong_configs`."""
        wrong = super().wrong_configs()
        if self.heads % 2 == 0 and self.facts.kv_heads == self.heads:
            wrong["wrong head count"] = {**self.config, "heads": self.heads // 2}
        if self.gated:
            other = "1.0" if self.config.get("te_release", "1.8") == "1.8" else "1.8"
            wrong["the gate in the other half"] = {**self.config, "te_release": other}
        if self.centred:
            other = "stored" if self.config.get("te_norm") == "direct" else "direct"
            wrong["norm scale of the other convention"] = {**self.config, "te_norm": other}
        return wrong


class TePaxRepeat(TePax):
    """The same model with all layers stacked on the first axis."""

    layout = "te/pax-repeat"
    depth = PaxLmRepeat.depth
    at = PaxLmRepeat.at


@compiled("length", "width")
def sinusoids(length: int, width: int) -> Array:
    """``PositionalEmbedding`` of Praxis ``[1, length, width]``: sines, then cosines, wavelengths 1 to 10000."""
    import jax.numpy as jnp

    half = width // 2
    step = jnp.log(10000.0) / max(half - 1, 1)
    angles = jnp.arange(length, dtype=jnp.float32)[:, None] * jnp.exp(jnp.arange(half) * -step)
    table = jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)
    return jnp.pad(table, ((0, 0), (0, width % 2)))[None]


@compiled("head_dim")
def rotated(x: Array, theta: float, *, head_dim: int) -> Array:
    """Rotary positions over whole heads ``[b, s, heads*dim]``, in half-split order."""
    import jax.numpy as jnp

    heads = heads_of(x, head_dim)
    half = head_dim // 2
    scale = theta ** (jnp.arange(half, dtype=jnp.float32) / half)
    angles = (jnp.arange(x.shape[1], dtype=jnp.float32)[:, None] / scale)[None, :, None, :]
    first, second = heads[..., :half], heads[..., half:]
    sin, cos = jnp.sin(angles), jnp.cos(angles)
    turned = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return turned.reshape(x.shape)


@compiled("head_dim")
def scaled(q: Array, per_dim: Array | None, *, head_dim: int) -> Array:
    """Queries ``[b, s, heads*dim]``, scaled by the size of a head and by what was learned of each dim."""
    import jax

    q = q * head_dim**-0.5
    return q if per_dim is None else (heads_of(q, head_dim) * (PER_DIM * jax.nn.softplus(per_dim))).reshape(q.shape)
