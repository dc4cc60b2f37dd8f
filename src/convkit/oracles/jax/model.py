"""Base of the T5X, Pax and TE oracles: the place of a role in a fused tensor, and a layer's arithmetic in JAX.

Source of every convention: T5X dddbfca, ``examples/t5/layers.py``; Praxis of 2024-05, ``layers/``;
TransformerEngine v1.5 ... v2.2, ``jax/flax/transformer.py``; and logits recorded from T5X and Paxml.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from functools import cache, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convkit.errors import ConvkitError
from convkit.oracles.inputs import Input
from convkit.oracles.oracle import Facts, Oracle
from convkit.oracles.parts import Cut
from convkit.oracles.tensors import shape_of

if TYPE_CHECKING:
    import numpy as np
    from jax import Array
    from torch import Tensor

    from convkit.oracles.oracle import Trace

#: input length for a model without a position table
POSITIONS = 2048
#: added to the score of a key that a query doesn't see
UNSEEN = -1e10


def compiled(*fixed: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Has JAX compile a function as one program for the shapes of its arrays, and for the arguments named ``fixed``.

    Otherwise each of its operations is a program of its own, and compiling those takes longest for a small model.
    """

    def made(function: Callable[..., Any]) -> Callable[..., Any]:
        @cache
        def program() -> Callable[..., Any]:
            import jax

            return jax.jit(function, static_argnames=fixed)

        @wraps(function)
        def call(*args: Any, **named: Any) -> Any:
            return program()(*args, **named)

        return call

    return made


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
        return to_jax(self.part(role).contiguous())

    def rows(self, role: str, ids: np.ndarray) -> np.ndarray:
        """Rows of a table; no other is touched."""
        return self.part(role).numpy()[ids]

    def linear(self, role: str, x: Array) -> Array:
        """``x`` through a weight, and a bias if there is one."""
        bias = self.array(f"{role}.bias") if f"{role}.bias" in self.roles else None
        return through(x, self.array(f"{role}.weight"), bias)

    @property
    @abstractmethod
    def activation(self) -> str:
        """``gelu``, ``relu`` or ``silu``."""

    @abstractmethod
    def norm(self, role: str, x: Array) -> Array:
        """``x`` through a norm."""

    def placed(self, i: int, q: Array, k: Array) -> tuple[Array, Array]:
        """Queries and keys ``[b, s, heads*dim]`` with what the layer does to them: rotation, scales."""
        return q, k

    def attention(self, i: int, x: Array, bias: Array | np.ndarray, trace: Trace) -> Array:
        """``x`` through a layer's norm and self attention; ``bias`` as in :func:`attend`."""
        layer = f"layers.{i}"
        x = self.norm(f"{layer}.norm_attention", x)
        leave(trace, i, "norm_attention", x)
        q, k, v = (self.linear(f"{layer}.{role}", x) for role in "qkv")
        leave(trace, i, "v", v)
        mixed, probabilities = attend(*self.placed(i, q, k), v, bias, head_dim=self.head_dim)
        leave(trace, i, "probabilities", probabilities)
        out = self.linear(f"{layer}.o", mixed)
        leave(trace, i, "attention", out)
        return out

    def feed_forward(self, i: int, x: Array, trace: Trace) -> Array:
        """``x`` through a layer's norm and feed-forward part, plain or gated; the gate is the activated half."""
        layer = f"layers.{i}"
        x = self.norm(f"{layer}.norm_ffn", x)
        leave(trace, i, "norm_ffn", x)
        up = gate = self.linear(f"{layer}.up", x)
        leave(trace, i, "up", up)
        if self.gated:
            gate = self.linear(f"{layer}.gate", x)
            leave(trace, i, "gate", gate)
        out = self.linear(f"{layer}.down", activated(gate, up if self.gated else None, activation=self.activation))
        leave(trace, i, "ffn", out)
        return out

    def rebased(self, factor: float) -> dict[str, Any] | None:
        """See :meth:`Oracle.rebased`."""
        return {**self.config, "rope_theta": factor * self.theta} if self.facts.base_matters else None

    @property
    def theta(self) -> float:
        """The base of the rotary frequencies."""
        return float(self.config.get("rope_theta", 10000.0))


@compiled()
def through(x: Array, weight: Array, bias: Array | None) -> Array:
    """``x`` through a weight ``[out, in]``, and a bias."""
    out = x @ weight.T
    return out if bias is None else out + bias


@compiled("activation")
def activated(gate: Array, up: Array | None, *, activation: str) -> Array:
    """The gate's activation, times the other half if there is one."""
    import jax

    act = {"gelu": jax.nn.gelu, "relu": jax.nn.relu, "silu": jax.nn.silu}[activation](gate)
    return act if up is None else act * up


@compiled("head_dim")
def attend(q: Array, k: Array, v: Array, bias: Array, *, head_dim: int) -> tuple[Array, Array]:
    """Mixed values ``[b, s, heads*dim]`` and probabilities ``[b, heads, s, t]``.

    Args:
        q: ``[b, s, heads*dim]``, scaled.
        k: ``[b, t, kv_heads*dim]``: a key serves ``heads / kv_heads`` consecutive query heads; the same for ``v``.
        bias: added to the scores, ``[b or 1, heads or 1, s, t]``; -1e10 where a key isn't visible.
        head_dim: the size of a head.
    """
    import jax
    import jax.numpy as jnp

    q, k, v = (heads_of(x, head_dim) for x in (q, k, v))
    served = q.shape[2] // k.shape[2]
    k, v = jnp.repeat(k, served, 2), jnp.repeat(v, served, 2)
    probabilities = jax.nn.softmax(jnp.einsum("bqhd,bkhd->bhqk", q, k) + bias, axis=-1)
    mixed = jnp.einsum("bhqk,bkhd->bqhd", probabilities, v)
    return mixed.reshape(*mixed.shape[:2], -1), probabilities


def causal(length: int) -> np.ndarray:
    """``[1, 1, length, length]``: 0 where a query sees a key, which is at its own position or before it."""
    import numpy as np

    return np.where(np.tri(length, dtype=bool), np.float32(0), np.float32(UNSEEN))[None, None]


def heads_of(x: Array, size: int) -> Array:
    """Split the last axis into heads."""
    return x.reshape(*x.shape[:-1], -1, size)


@compiled("centred")
def normalised(x: Array, scale: Array, offset: Array | None, eps: float, *, centred: bool) -> Array:
    """Normalise over the last axis: subtract the mean (LayerNorm), divide by the biased variance's root, then scale and
    offset.
    """
    import jax
    import jax.numpy as jnp

    x = x - jnp.mean(x, -1, keepdims=True) if centred else x
    x = x * jax.lax.rsqrt(jnp.mean(jnp.square(x), -1, keepdims=True) + eps) * scale
    return x if offset is None else x + offset


def leave(trace: Trace, i: int, point: str, x: Array) -> None:
    """Leave a point inside layer ``i`` in a trace, if that keeps it."""
    if i == trace.detail:
        trace.point(i, point, to_torch(x))


def to_jax(x: Tensor) -> Array:
    """A tensor as a JAX array, which may lie in its memory: a stage ends when all that it reads has been read."""
    import jax

    return jax.device_put(x.numpy())


def to_torch(x: Array | np.ndarray) -> Tensor:
    """A state as a torch tensor, for the trace."""
    import numpy as np
    import torch

    return torch.from_numpy(np.array(x, dtype=np.float32))
