"""Base of the T5X, Pax and TE oracles: the place of a role in a fused tensor, and a layer's arithmetic in JAX.

Source of every convention: T5X dddbfca, ``examples/t5/layers.py``; Praxis of 2024-05, ``layers/``;
TransformerEngine v1.5 ... v2.2, ``jax/flax/transformer.py``; and logits recorded from T5X and Paxml.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convkit.errors import ConvkitError
from convkit.oracles.inputs import Input
from convkit.oracles.oracle import Facts, Oracle
from convkit.oracles.parts import Cut
from convkit.oracles.tensors import shape_of

if TYPE_CHECKING:
    from jax import Array
    from torch import Tensor

    from convkit.oracles.oracle import Trace

#: input length for a model without a position table
POSITIONS = 2048
#: added to the score of a key that a query doesn't see
UNSEEN = -1e10


class JaxOracle(Oracle):
    """Keys and roles of a model without a config file; ``config`` holds the facts that tensors can't show."""

    in_torch = False
    packages = ("jax",)
    facts: Facts
    #: whether the feed-forward part is gated: it has a second half without activation
    gated: bool
    #: size of an attention head
    head_dim: int

    def __init__(self, config: Mapping[str, Any], tensors: Mapping[str, Tensor], path: Path | None = None) -> None:
        self.config, self.tensors, self.path = dict(config), tensors, path
        self.roles, self.twins, self.problems, self.notes = {}, {}, [], []
        self.claim()
        used = {part.key for part in self.roles.values()}
        self.refuse(key for key in tensors if key.startswith(self.weights) and key not in used)

    @property
    def inputs(self) -> dict[str, Input]:
        """See :attr:`Oracle.inputs`; no table limits the positions."""
        return {"input_ids": Input(self.facts.vocab_size, needed=True)}

    #: prefix of the model's own tensors
    weights: str

    @abstractmethod
    def claim(self) -> None:
        """Assign a role to every tensor, and set the facts."""

    def has(self, key: str) -> bool:
        """Whether the checkpoint has this tensor of the model."""
        return f"{self.weights}{key}" in self.tensors

    def shape(self, key: str) -> tuple[int, ...]:
        """Shape of a tensor of the model.

        Raises:
            ConvkitError: the tensor is missing.
        """
        if not self.has(key):
            raise ConvkitError(
                "is missing", path=self.path, key=f"{self.weights}{key}", remedy=f"is this a {self.layout} checkpoint?"
            )
        return shape_of(self.tensors, f"{self.weights}{key}")

    def give(self, role: str, key: str, at: tuple[int | None, ...] = (), ins: tuple[int, ...] = ()) -> None:
        """Assign a role to a block of a tensor."""
        self.shape(key)
        self.roles[role] = Cut(f"{self.weights}{key}", at=at, ins=ins)

    def layers(self, prefix: str) -> int:
        """The number of layers below a prefix."""
        start = f"{self.weights}{prefix}"
        found = {key[len(start) :].split(".")[0] for key in self.tensors if key.startswith(start)}
        return len(found)

    def array(self, role: str) -> Array:
        """A role's part as a JAX array."""
        import jax.numpy as jnp

        return jnp.asarray(self.part(role).contiguous().numpy())

    def rows(self, role: str, ids: Array) -> Array:
        """Rows of a table; no other is touched."""
        import jax.numpy as jnp
        import numpy as np

        return jnp.asarray(self.part(role).numpy()[np.asarray(ids)])

    def linear(self, role: str, x: Array) -> Array:
        """``x`` through a weight, and a bias if there is one."""
        out = x @ self.array(f"{role}.weight").T
        return out + self.array(f"{role}.bias") if f"{role}.bias" in self.roles else out

    @property
    @abstractmethod
    def activation(self) -> str:
        """``gelu``, ``relu`` or ``silu``."""

    @abstractmethod
    def norm(self, role: str, x: Array) -> Array:
        """``x`` through a norm."""

    def placed(self, i: int, q: Array, k: Array) -> tuple[Array, Array]:
        """Queries and keys ``[b, s, heads, dim]`` with what the layer does to them: rotation, scales."""
        return q, k

    def attention(self, i: int, x: Array, bias: Array, trace: Trace) -> Array:
        """``x`` through a layer's norm and self attention; ``bias`` as in :func:`attend`."""
        layer = f"layers.{i}"
        x = self.norm(f"{layer}.norm_attention", x)
        trace.point(i, "norm_attention", to_torch(x))
        q, k, v = (heads_of(self.linear(f"{layer}.{role}", x), self.head_dim) for role in "qkv")
        trace.point(i, "v", to_torch(v.reshape(*v.shape[:2], -1)))
        mixed, probabilities = attend(*self.placed(i, q, k), v, bias)
        trace.point(i, "probabilities", to_torch(probabilities))
        out = self.linear(f"{layer}.o", mixed)
        trace.point(i, "attention", to_torch(out))
        return out

    def feed_forward(self, i: int, x: Array, trace: Trace) -> Array:
        """``x`` through a layer's norm and feed-forward part, plain or gated; the gate is the activated half."""
        import jax

        layer = f"layers.{i}"
        act = {"gelu": jax.nn.gelu, "relu": jax.nn.relu, "silu": jax.nn.silu}[self.activation]
        x = self.norm(f"{layer}.norm_ffn", x)
        trace.point(i, "norm_ffn", to_torch(x))
        up = self.linear(f"{layer}.up", x)
        trace.point(i, "up", to_torch(up))
        if self.gated:
            gate = self.linear(f"{layer}.gate", x)
            trace.point(i, "gate", to_torch(gate))
        out = self.linear(f"{layer}.down", act(gate) * up if self.gated else act(up))
        trace.point(i, "ffn", to_torch(out))
        return out

    def rebased(self, factor: float) -> dict[str, Any] | None:
        """See :meth:`Oracle.rebased`."""
        return {**self.config, "rope_theta": factor * self.theta} if self.facts.base_matters else None

    @property
    def theta(self) -> float:
        """The base of the rotary frequencies."""
        return float(self.config.get("rope_theta", 10000.0))


def attend(q: Array, k: Array, v: Array, bias: Array) -> tuple[Array, Array]:
    """Mixed values ``[b, s, heads*dim]`` and probabilities ``[b, heads, s, t]``.

    Args:
        q: ``[b, s, heads, dim]``, scaled.
        k: ``[b, t, kv_heads, dim]``: a key serves ``heads / kv_heads`` consecutive query heads; the same for ``v``.
        bias: added to the scores, ``[b or 1, heads or 1, s, t]``; -1e10 where a key isn't visible.
    """
    import jax
    import jax.numpy as jnp

    served = q.shape[2] // k.shape[2]
    k, v = jnp.repeat(k, served, 2), jnp.repeat(v, served, 2)
    probabilities = jax.nn.softmax(jnp.einsum("bqhd,bkhd->bhqk", q, k) + bias, axis=-1)
    mixed = jnp.einsum("bhqk,bkhd->bqhd", probabilities, v)
    return mixed.reshape(*mixed.shape[:2], -1), probabilities


def causal(length: int) -> Array:
    """``[1, 1, length, length]``: 0 where a query sees a key, which is at its own position or before it."""
    import jax.numpy as jnp

    return jnp.where(jnp.tril(jnp.ones((length, length), bool)), 0.0, UNSEEN)[None, None]


def heads_of(x: Array, size: int) -> Array:
    """Split the last axis into heads."""
    return x.reshape(*x.shape[:-1], -1, size)


def normalised(x: Array, eps: float, centred: bool) -> Array:
    """Normalise over the last axis: subtract the mean (LayerNorm), divide by the biased variance's root."""
    import jax
    import jax.numpy as jnp

    x = x - jnp.mean(x, -1, keepdims=True) if centred else x
    return x * jax.lax.rsqrt(jnp.mean(jnp.square(x), -1, keepdims=True) + eps)


def to_jax(x: Tensor) -> Array:
    """A state, or ids, as a JAX array."""
    import jax.numpy as jnp

    return jnp.asarray(x.numpy())


def to_torch(x: Array) -> Tensor:
    """A state as a torch tensor, for the trace."""
    import numpy as np
    import torch

    return torch.from_numpy(np.array(x, dtype=np.float32))
