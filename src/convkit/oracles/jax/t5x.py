"""T5 in T5X: encoder and decoder, relative positions, plain or gated feed-forward; also with TE's layers.

Source: T5X dddbfca, ``examples/t5/network.py`` and ``layers.py``; TransformerEngine v1.5 ... v2.2,
``jax/flax/transformer.py`` with ``scale_attn_logits=False``, as NVIDIA's T5X configures it. Scores are not scaled; a
gated layer's first half has the model's activation, its second is linear; padding is id 0. Layers are numbered through
the encoder, then the decoder; roles of cross attention begin with ``cross_``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from convkit.oracles.jax.model import POSITIONS, JaxOracle, attend, heads_of, normalised, to_torch
from convkit.oracles.oracle import Facts, Trace

if TYPE_CHECKING:
    from jax import Array
    from torch import Tensor

EPS = 1e-6
#: the distance from which on relative positions share a bucket
MAX_DISTANCE = 128
UNSEEN = -1e10


class T5xT5(JaxOracle):
    """``target.*`` of a T5X checkpoint."""

    layout = "t5x/t5"
    weights = "target."

    def claim(self) -> None:
        """See :meth:`JaxOracle.claim`."""
        self.depth = {stack: self.layers(f"{stack}.layers_") for stack in ("encoder", "decoder")}
        vocab, self.width = self.shape("token_embedder.embedding")
        self.heads = self.shape("decoder.relpos_bias.rel_embedding")[0]
        self.give("embedding.weight", "token_embedder.embedding", ins=(1,))
        for stack, first in (("encoder", 0), ("decoder", self.depth["encoder"])):
            if self.depth[stack]:
                self.give(f"positions_{stack}.weight", f"{stack}.relpos_bias.rel_embedding", ins=(1,))
                self.give(f"norm_{stack}.weight", f"{stack}.{stack}_norm.scale")
            for i in range(self.depth[stack]):
                at, role = f"{stack}.layers_{i}.", f"layers.{first + i}."
                self.give_attention(at, role, "attention" if stack == "encoder" else "self_attention")
                if stack == "decoder":
                    self.give_cross(at, role)
                self.give_mlp(at, role)
        tied = not self.has("decoder.logits_dense.kernel")
        if tied:
            self.roles["head.lm.weight"] = self.roles["embedding.weight"]
        else:
            self.give("head.lm.weight", "decoder.logits_dense.kernel", ins=(0,))
        layers = sum(self.depth.values())
        self.gated = "layers.0.gate.weight" in self.roles
        self.head_dim = self.part("layers.0.q.weight").shape[0] // self.heads
        self.facts = Facts(layers, self.heads, self.heads, vocab, POSITIONS, causal=True, tied=tied)

    def give_attention(self, at: str, role: str, name: str) -> None:
        """Roles of a self attention and its norm."""
        for part, kernel in (("q", "query"), ("k", "key"), ("v", "value"), ("o", "out")):
            self.give(f"{role}{part}.weight", f"{at}{name}.{kernel}.kernel", ins=(0,))
        self.give(f"{role}norm_attention.weight", f"{at}pre_{name}_layer_norm.scale")

    def give_cross(self, at: str, role: str) -> None:
        """Roles of a cross attention and its norm."""
        for part, kernel in (("q", "query"), ("k", "key"), ("v", "value"), ("o", "out")):
            self.give(f"{role}cross_{part}.weight", f"{at}encoder_decoder_attention.{kernel}.kernel", ins=(0,))
        self.give(f"{role}norm_cross.weight", f"{at}pre_cross_attention_layer_norm.scale")

    def give_mlp(self, at: str, role: str) -> None:
        """Roles of a feed-forward layer and its norm."""
        self.give(f"{role}norm_ffn.weight", f"{at}pre_mlp_layer_norm.scale")
        if self.has(f"{at}mlp.wi_0.kernel"):
            self.give(f"{role}gate.weight", f"{at}mlp.wi_0.kernel", ins=(0,))
            self.give(f"{role}up.weight", f"{at}mlp.wi_1.kernel", ins=(0,))
        else:
            self.give(f"{role}up.weight", f"{at}mlp.wi.kernel", ins=(0,))
        self.give(f"{role}down.weight", f"{at}mlp.wo.kernel", ins=(0,))

    @property
    def activation(self) -> str:
        """The config's activation; by default ``gelu`` (T5 1.1) for a gated layer, else ``relu`` (the first T5)."""
        return self.config.get("activation", "gelu" if self.gated else "relu")

    def run(self, inputs: Mapping[str, Tensor], detail: int | None = None) -> Trace:
        """See :meth:`Oracle.run`: ``input_ids`` go to the encoder, and to the decoder shifted by one, after a 0."""
        import jax.numpy as jnp

        ids = jnp.asarray(inputs["input_ids"].numpy())
        shifted = jnp.pad(ids, ((0, 0), (1, 0)))[:, :-1]
        return self.forward(ids, shifted, detail)

    def forward(self, encoder: Any, decoder: Any, detail: int | None = None) -> Trace:
        """Run with encoder ids ``[b, s]`` and decoder ids ``[b, t]``, int."""
        import jax.numpy as jnp

        encoder, decoder = jnp.asarray(encoder), jnp.asarray(decoder)
        trace = Trace(detail)
        seen = jnp.where(encoder > 0, 0.0, UNSEEN)[:, None, None, :]
        table = self.array("embedding.weight")
        memory = table[encoder]
        trace.state("embedding", to_torch(memory))
        for i in range(self.depth["encoder"]):
            bias = self.positions("encoder", encoder.shape[1], both_ways=True) + seen
            memory = memory + self._attention(i, memory, bias, trace)
            memory = memory + self.feed_forward(i, memory, trace)
            trace.state(f"layers.{i}", to_torch(memory))
        if self.depth["encoder"]:
            memory = self.norm("norm_encoder", memory)
            trace.state("encoded", to_torch(memory))
        length = decoder.shape[1]
        causal = jnp.where(jnp.tril(jnp.ones((length, length), bool)), 0.0, UNSEEN)[None, None]
        x = table[decoder]
        for i in range(self.depth["encoder"], self.facts.layers):
            x = x + self._attention(i, x, self.positions("decoder", length, both_ways=False) + causal, trace)
            x = x + self._cross(i, x, memory, seen)
            x = x + self.feed_forward(i, x, trace)
            trace.state(f"layers.{i}", to_torch(x))
        x = self.norm("norm_decoder", x)
        trace.state("final", to_torch(x))
        x = x / self.width**0.5 if self.facts.tied else x
        trace.outputs["lm"] = to_torch(self.linear("head.lm", x))
        return trace

    def norm(self, role: str, x: Array) -> Array:
        """RMS norm with a direct scale."""
        return normalised(x, float(self.config.get("eps", EPS)), centred=False) * self.array(f"{role}.weight")

    def _attention(self, i: int, x: Array, bias: Array, trace: Trace) -> Array:
        layer = f"layers.{i}"
        x = self.norm(f"{layer}.norm_attention", x)
        trace.point(i, "norm_attention", to_torch(x))
        q, k, v = (heads_of(self.linear(f"{layer}.{role}", x), self.head_dim) for role in "qkv")
        trace.point(i, "v", to_torch(v.reshape(*v.shape[:2], -1)))
        mixed, probabilities = attend(q, k, v, bias)
        trace.point(i, "probabilities", to_torch(probabilities))
        out = self.linear(f"{layer}.o", mixed)
        trace.point(i, "attention", to_torch(out))
        return out

    def _cross(self, i: int, x: Array, memory: Array, seen: Array) -> Array:
        layer = f"layers.{i}.cross_"
        q = heads_of(self.linear(f"{layer}q", self.norm(f"layers.{i}.norm_cross", x)), self.head_dim)
        k, v = (heads_of(self.linear(f"{layer}{role}", memory), self.head_dim) for role in "kv")
        return self.linear(f"{layer}o", attend(q, k, v, seen)[0])

    def positions(self, stack: str, length: int, both_ways: bool) -> Array:
        """Biases of relative positions ``[1, heads, length, length]``."""
        import jax.numpy as jnp

        table = self.array(f"positions_{stack}.weight")
        buckets = table.shape[1]
        distance = jnp.arange(length)[:, None] - jnp.arange(length)[None, :]  # above 0: the key is earlier
        first = jnp.zeros_like(distance)
        if both_ways:
            buckets //= 2
            first = jnp.where(distance < 0, buckets, 0)
            distance = jnp.abs(distance)
        distance = jnp.maximum(distance, 0)
        exact = buckets // 2
        ratio = jnp.log(distance.astype(jnp.float32) / exact + jnp.finfo(jnp.float32).eps)
        far = exact + (ratio / jnp.log(MAX_DISTANCE / exact) * (buckets - exact)).astype(jnp.int32)
        bucket = first + jnp.where(distance < exact, distance, jnp.minimum(far, buckets - 1))
        return table[:, bucket][None]

    def wrong_configs(self) -> dict[str, dict[str, Any]]:
        """See :meth:`Oracle.wrong_configs`."""
        return {
            "wrong activation": {**self.config, "activation": "silu"},
            "wrong norm epsilon": {**self.config, "eps": 1e-3},
        }

    def untied(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """See :meth:`Oracle.untied`."""
        head = self.part("embedding.weight").T.contiguous() / self.width**0.5
        return self.config, {**self.tensors, "target.decoder.logits_dense.kernel": head}


class TeT5(T5xT5):
    """The same model with TE's layers and separate query, key and value."""

    layout = "te/t5"

    def give_attention(self, at: str, role: str, name: str) -> None:
        """See :meth:`T5xT5.give_attention`."""
        for part, kernel in (("q", "query"), ("k", "key"), ("v", "value"), ("o", "out")):
            self.give(f"{role}{part}.weight", f"{at}{name}.{kernel}.kernel", ins=(0,))
        self.give(f"{role}norm_attention.weight", f"{at}{name}.query.scale")

    def give_cross(self, at: str, role: str) -> None:
        """See :meth:`T5xT5.give_cross`."""
        name = "encoder_decoder_attention"
        for part, kernel in (("q", "query"), ("k", "key"), ("v", "value"), ("o", "out")):
            self.give(f"{role}cross_{part}.weight", f"{at}{name}.{kernel}.kernel", ins=(0,))
        self.give(f"{role}norm_cross.weight", f"{at}{name}.query.scale")

    def give_mlp(self, at: str, role: str) -> None:
        """See :meth:`T5xT5.give_mlp`: ``wi_kernel [embed, activations, mlp]``, the activated half first."""
        self.give(f"{role}norm_ffn.weight", f"{at}mlp.scale")
        names = ("gate", "up") if self.shape(f"{at}mlp.wi_kernel")[1] == 2 else ("up",)
        for n, part in enumerate(names):
            self.give(f"{role}{part}.weight", f"{at}mlp.wi_kernel", at=(None, n), ins=(0,))
        self.give(f"{role}down.weight", f"{at}mlp.wo_kernel", ins=(0,))


class TeT5Fused(TeT5):
    """The same model with fused kernels: ``qkv [embed, 3, heads*dim]``, ``kv [embed, 2, heads*dim]``."""

    layout = "te/t5-fused"

    def give_attention(self, at: str, role: str, name: str) -> None:
        """See :meth:`T5xT5.give_attention`."""
        for n, part in enumerate("qkv"):
            self.give(f"{role}{part}.weight", f"{at}{name}.qkv.kernel", at=(None, n), ins=(0,))
        self.give(f"{role}o.weight", f"{at}{name}.out.kernel", ins=(0,))
        self.give(f"{role}norm_attention.weight", f"{at}{name}.qkv.scale")

    def give_cross(self, at: str, role: str) -> None:
        """See :meth:`T5xT5.give_cross`."""
        name = f"{at}encoder_decoder_attention"
        self.give(f"{role}cross_q.weight", f"{name}.query.kernel", ins=(0,))
        for n, part in enumerate("kv"):
            self.give(f"{role}cross_{part}.weight", f"{name}.kv.kernel", at=(None, n), ins=(0,))
        self.give(f"{role}cross_o.weight", f"{name}.out.kernel", ins=(0,))
        self.give(f"{role}norm_cross.weight", f"{name}.query.scale")
