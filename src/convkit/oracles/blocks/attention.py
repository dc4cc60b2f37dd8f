"""Attention with its options, and what is added to its scores: masks, windows, slopes of distance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from convkit.oracles.blocks.norms import Norm
from convkit.oracles.blocks.weights import Leave, Weights

if TYPE_CHECKING:
    from torch import Tensor

#: Rotates queries or keys ``[b, s, heads, head_dim]`` by their positions.
Turn = Callable[["Tensor"], "Tensor"]


@dataclass(frozen=True)
class Attention:
    """Attention over heads of ``head_dim``, in the order scale, cap, bias, softmax.

    The numbers of heads follow from the weights: a key serves ``heads / kv_heads`` consecutive query heads.

    Attributes:
        scale: multiplies the queries.
        key_scale: multiplies the keys.
        score_scale: multiplies the scores.
        value_scale: multiplies the values.
        out_scale: multiplies the output.
        cap: scores become ``tanh(scores / cap) * cap``; None where they aren't capped.
    """

    head_dim: int
    scale: float = 1.0
    key_scale: float = 1.0
    score_scale: float = 1.0
    cap: float | None = None
    value_scale: float = 1.0
    out_scale: float = 1.0

    def __call__(self, weights: Weights, x: Tensor, bias: Tensor, turn: Turn | None, leave: Leave) -> Tensor:
        """The attention's output ``[b, s, hidden]``; ``bias`` is added to the scores ``[b, heads, s, s]``."""
        q, k, v = (weights.linear(role, x).unflatten(-1, (-1, self.head_dim)) for role in "qkv")
        v = v * self.value_scale
        leave("v", v.flatten(2))
        if turn:
            q, k = turn(q), turn(k)
        mixed, probabilities = self.mix(q, k, v, bias)
        leave("probabilities", probabilities)
        out = weights.linear("o", mixed) * self.out_scale
        leave("attention", out)
        return out

    def across(
        self, weights: Weights, encoded: Tensor, bias: Tensor, leave: Leave, x: Tensor, *, norm: Norm | None = None
    ) -> Tensor:
        """The same from ``x`` to what an encoder gave, ``encoded``; its roles begin with ``cross_``.

        With a ``norm``, the queries and keys of each head pass through ``norm_cross_q`` and ``norm_cross_k``.
        """
        q, k, v = (
            weights.linear(f"cross_{role}", of).unflatten(-1, (-1, self.head_dim))
            for role, of in (("q", x), ("k", encoded), ("v", encoded))
        )
        if norm:
            q, k = norm(weights, "norm_cross_q", q), norm(weights, "norm_cross_k", k)
        mixed, probabilities = self.mix(q, k, v * self.value_scale, bias)
        leave("cross_probabilities", probabilities)
        out = weights.linear("cross_o", mixed) * self.out_scale
        leave("cross", out)
        return out

    def mix(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Mixed values ``[b, s, heads * head_dim]`` and probabilities ``[b, heads, s, s]``."""
        import torch

        served = q.shape[2] // k.shape[2]
        k, v = k.repeat_interleave(served, dim=2), v.repeat_interleave(served, dim=2)
        scores = torch.einsum("bqhd,bkhd->bhqk", q * self.scale, k * self.key_scale) * self.score_scale
        probabilities = torch.softmax(capped(scores, self.cap) + bias, dim=-1)
        return torch.einsum("bhqk,bkhd->bqhd", probabilities, v).flatten(2), probabilities


def capped(x: Tensor, cap: float | None) -> Tensor:
    """``tanh(x / cap) * cap``; unchanged without a cap."""
    import torch

    return torch.tanh(x / cap) * cap if cap else x


def causal(length: int, window: int | None = None) -> Tensor:
    """``[length, length]``: 0 where a query sees a key, -inf elsewhere.

    A query sees itself and what is before it; with a window, ``window`` keys in all.
    """
    import torch

    hidden = torch.full((length, length), -torch.inf)
    later = hidden.triu(1)
    return later + hidden.tril(-window) if window else later


def padding(seen: Tensor) -> Tensor:
    """``[b, 1, 1, s]``: 0 for positions that are seen (``[b, s]``, not 0), -inf for the others."""
    import torch

    seen = seen.bool()
    return torch.zeros(seen.shape).masked_fill(~seen, -torch.inf)[:, None, None, :]


def alibi(slopes: Tensor, length: int) -> Tensor:
    """``[heads, length, length]``: minus a head's slope (``[heads, 1]``) times the distance of query and key."""
    import torch

    positions = torch.arange(length)
    return -slopes[:, :, None] * (positions[None, :] - positions[:, None]).abs()
