"""Feed-forward parts: plain, gated, and a choice of experts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from convkit.oracles.blocks.weights import Leave, Weights

if TYPE_CHECKING:
    from torch import Tensor

#: An activation, elementwise.
Activation = Callable[["Tensor"], "Tensor"]


@dataclass(frozen=True)
class FeedForward:
    """``down(act(up(x)))``; gated, ``down(up(x) * act(gate(x)))``."""

    act: Activation
    gated: bool = False

    def __call__(self, weights: Weights, x: Tensor, leave: Leave) -> Tensor:
        """``[..., hidden]`` to the same; what the activation and the gate take is left to ``leave``."""
        up = weights.linear("up", x)
        if self.gated:
            gate = weights.linear("gate", x)
            leave("gate", gate)
        leave("up", up)
        return weights.linear("down", up * self.act(gate) if self.gated else self.act(up))


@dataclass(frozen=True)
class Experts:
    """Feed-forward parts, of which a router chooses some for each token and weighs their outputs.

    A token's weights are the ``top`` largest probabilities of the router, over all experts, divided by their sum.
    Experts that no token chose aren't read. Expert ``e`` has the roles ``experts.{e}.up`` and so on.
    """

    each: FeedForward
    top: int

    def __call__(self, weights: Weights, x: Tensor, leave: Leave) -> Tensor:
        """``[b, s, hidden]`` to the same; the router's scores, and which experts are idle, are left to ``leave``."""
        import torch

        scores = weights.linear("router", x)
        leave("router", scores)
        largest, chosen = torch.softmax(scores, -1).topk(self.top, -1)
        leave("idle", torch.tensor([e for e in range(scores.shape[-1]) if not (chosen == e).any()]))
        shares = largest / largest.sum(-1, keepdim=True)
        out = torch.zeros_like(x)
        for expert in chosen.unique().tolist():
            *at, place = torch.where(chosen == expert)
            fed = self.each(weights.within(f"experts.{expert}."), x[*at], lambda point, value: None)
            out[*at] += shares[*at, place, None] * fed
        return out
