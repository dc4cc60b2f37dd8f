"""A layer of a transformer: norms, attention and a feed-forward part, in one of three orders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from convkit.oracles.blocks.attention import Attention, Turn
from convkit.oracles.blocks.feed_forward import Experts, FeedForward
from convkit.oracles.blocks.norms import Norm
from convkit.oracles.blocks.weights import Leave, Weights

if TYPE_CHECKING:
    from torch import Tensor

#: A decoder's attention to its encoder's output.
Across = Callable[["Tensor"], "Tensor"]


@dataclass(frozen=True)
class Block:
    """A layer, ``[b, s, hidden]`` to the same.

    ``pre``: each part works on what its norm gives, and is added to the stream. Where the layer has the norms
    ``norm_attention_post`` and ``norm_ffn_post``, a part's output passes through them first (a sandwich).
    ``post``: each part is added to the stream, and a norm follows.
    ``parallel``: both parts work on the layer's input, behind a norm each, or behind one where there is no
    ``norm_ffn``.
    Where the layer has them, ``gate_attention`` and ``gate_ffn`` (one number each, behind tanh) multiply what a part
    adds to the stream in the ``pre`` order.
    """

    order: Literal["pre", "post", "parallel"]
    norm: Norm
    attention: Attention
    feed: FeedForward | Experts

    def __call__(
        self,
        weights: Weights,
        x: Tensor,
        bias: Tensor,
        turn: Turn | None,
        leave: Leave,
        *,
        across: Across | None = None,
    ) -> Tensor:
        """``bias`` and ``turn`` are those of :class:`Attention`; points inside the layer are left to ``leave``.

        ``across`` is a decoder's attention to what its encoder gave, behind ``norm_cross``.
        """

        def normed(role: str, value: Tensor) -> Tensor:
            out = self.norm(weights, role, value)
            leave(role, out)
            return out

        def fed(value: Tensor) -> Tensor:
            out = self.feed(weights, value, leave)
            leave("ffn", out)
            return out

        def closed(role: str, value: Tensor) -> Tensor:
            return normed(role, value) if f"{role}.weight" in weights else value

        if self.order == "post":
            x = normed("norm_attention", x + self.attention(weights, x, bias, turn, leave))
            return normed("norm_ffn", x + fed(x))
        first = normed("norm_attention", x)
        attended = closed("norm_attention_post", self.attention(weights, first, bias, turn, leave))
        if self.order == "parallel":
            return x + attended + fed(normed("norm_ffn", x) if "norm_ffn.weight" in weights else first)
        x = x + gated(weights, "gate_attention", attended)
        if across:
            x = x + across(normed("norm_cross", x))
        return x + gated(weights, "gate_ffn", closed("norm_ffn_post", fed(normed("norm_ffn", x))))

    def reading(self, weights: Weights, x: Tensor, leave: Leave, across: Across) -> Tensor:
        """A layer that attends to what an encoder gave in place of itself: ``across``, behind ``norm_cross``."""
        normed = self.norm(weights, "norm_cross", x)
        leave("norm_cross", normed)
        x = x + gated(weights, "gate_attention", across(normed))
        normed = self.norm(weights, "norm_ffn", x)
        leave("norm_ffn", normed)
        fed = self.feed(weights, normed, leave)
        leave("ffn", fed)
        return x + gated(weights, "gate_ffn", fed)


def gated(weights: Weights, role: str, value: Tensor) -> Tensor:
    """What a part gives, behind its gate if it has one."""
    return value * weights[role].tanh() if role in weights else value
