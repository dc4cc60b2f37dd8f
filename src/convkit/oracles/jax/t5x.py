"""T5 in T5X: encoder and decoder, relative positions, plain or gated feed-forward; also with TE's layers.

Source: T5X dddbfca, ``examples/t5/network.py`` and ``layers.py``; TransformerEngine v1.5 ... v2.2,
``jax/flax/transformer.py`` with ``scale_attn_logits=False``, as NVIDIA's T5X configures it. Scores are not scaled; a
gated layer's first half has the model's activation, its second is linear; padding is id 0. Layers are numbered through
the encoder, then the decoder; roles of cross attention begin with ``cross_``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from convkit.oracles.inputs import Input
from convkit.oracles.jax.model import (
    POSITIONS,
    UNSEEN,
    JaxOracle,
    attend,
    causal,
    compiled,
    leave,
    normalised,
    to_jax,
    to_torch,
)
from convkit.oracles.oracle import Facts, State, Trace
from convkit.oracles.stacks import EncoderDecoder

if TYPE_CHECKING:
    import numpy as np
    from jax import Array
    from torch import Tensor

EPS = 1e-6
#: the distance from which on relative positions share a bucket
MAX_DISTANCE = 128


class T5xT5(JaxOracle, EncoderDecoder):
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
        self.head_dim = self.part_shape("layers.0.q.weight")[0] // self.heads
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

    @property
    def inputs(self) -> dict[str, Input]:
        """See :attr:`Oracle.inputs`."""
        return {**super().inputs, "decoder_input_ids": Input(self.facts.vocab_size, needed=True)}

    def start(self, inputs: Mapping[str, Tensor]) -> State:
        """See :meth:`Oracle.start`: ``input_ids`` go to the encoder."""
        import numpy as np

        encoder, decoder = inputs["input_ids"].numpy(), inputs["decoder_input_ids"].numpy()
        seen = np.where(encoder > 0, np.float32(0), np.float32(UNSEEN))[:, None, None, :]
        return State({}, {"encoder": encoder, "decoder": decoder, "seen": seen})

    def embedded(self, stack: str, given: Mapping[str, Any]) -> Tensor:
        """See :meth:`EncoderDecoder.embedded`."""
        return to_torch(self.rows("embedding.weight", given[stack]))

    def encoded(self, x: Tensor) -> Tensor:
        """See :meth:`EncoderDecoder.encoded`."""
        return to_torch(self.norm("norm_encoder", to_jax(x)))

    def layer(self, i: int, stack: str, flow: Mapping[str, Tensor], given: Mapping[str, Any], trace: Trace) -> Tensor:
        """See :meth:`EncoderDecoder.layer`."""
        x = to_jax(flow["hidden"])
        table, length = self.array(f"positions_{stack}.weight"), x.shape[1]
        if stack == "encoder":
            bias = relative(table, buckets(length, table.shape[1], both_ways=True), given["seen"])
        else:
            bias = relative(table, buckets(length, table.shape[1], both_ways=False), causal(length))
        x = x + self.attention(i, x, bias, trace)
        if stack == "decoder":
            x = x + self._cross(i, x, to_jax(flow["encoded"]), given["seen"], trace)
        return to_torch(x + self.feed_forward(i, x, trace))

    def after(self, x: Tensor, given: Mapping[str, Any], trace: Trace) -> Tensor:
        """See :meth:`EncoderDecoder.after`."""
        hidden = self.norm("norm_decoder", to_jax(x))
        trace.state("final", to_torch(hidden))
        hidden = hidden / self.width**0.5 if self.facts.tied else hidden
        trace.outputs["lm"] = to_torch(self.linear("head.lm", hidden))
        return trace.states["final"]

    def norm(self, role: str, x: Array) -> Array:
        """RMS norm with a direct scale."""
        return normalised(x, self.array(f"{role}.weight"), None, float(self.config.get("eps", EPS)), centred=False)

    def _cross(self, i: int, x: Array, memory: Array, seen: Array, trace: Trace) -> Array:
        layer = f"layers.{i}.cross_"
        x = self.norm(f"layers.{i}.norm_cross", x)
        leave(trace, i, "norm_cross", x)
        q, k, v = self.linear(f"{layer}q", x), *(self.linear(f"{layer}{role}", memory) for role in "kv")
        mixed, probabilities = attend(q, k, v, seen, head_dim=self.head_dim)
        leave(trace, i, "cross_probabilities", probabilities)
        out = self.linear(f"{layer}o", mixed)
        leave(trace, i, "cross", out)
        return out

    def wrong_configs(self) -> dict[str, dict[str, Any]]:
        """See :meth:`Oracle.wrong_configs`."""
        return {
            "wrong activation": {**self.config, "activation": "silu"},
            "wrong norm epsilon": {**self.config, "eps": 1e-3},
        }


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


@compiled()
def relative(table: Array, bucket: Array, unseen: Array) -> Array:
    """Biases of relative positions ``[b or 1, heads, length, length]``, and -1e10 where ``unseen`` says so."""
    return table[:, bucket][None] + unseen


def buckets(length: int, number: int, *, both_ways: bool) -> np.ndarray:
    """The bucket of each distance between a query and a key, int32 ``[length, length]``, in numpy as T5X does it.

    Half of them are for a distance each, the others for larger ones; a decoder looks back only.
    """
    import numpy as np

    distance = np.arange(length)[:, None] - np.arange(length)[None, :]  # above 0: the key is earlier
    first = np.zeros_like(distance)
    if both_ways:
        number //= 2
        first = np.where(distance < 0, number, 0)
        distance = np.abs(distance)
    distance = np.maximum(distance, 0)
    exact = number // 2
    ratio = np.log(distance.astype(np.float32) / exact + np.finfo(np.float32).eps)
    far = exact + (ratio / np.log(MAX_DISTANCE / exact) * (number - exact)).astype(np.int32)
    return (first + np.where(distance < exact, distance, np.minimum(far, number - 1))).astype(np.int32)
