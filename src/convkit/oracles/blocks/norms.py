"""Norms over the last axis: LayerNorm and RMS norm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from convkit.oracles.blocks.weights import Weights

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Norm:
    """A norm with a scale, and with a shift where the model has one.

    Attributes:
        eps: added to the (biased) variance or mean square.
        rms: divide by the root of the mean square, and subtract no mean.
    """

    eps: float
    rms: bool = False

    def __call__(self, weights: Weights, role: str, x: Tensor) -> Tensor:
        """``x``, normed by the tensors of ``role``."""
        import torch
        from torch.nn import functional

        scale, shift = weights[f"{role}.weight"], weights.shift(role)
        if not self.rms:
            return functional.layer_norm(x, x.shape[-1:], scale, shift, self.eps)
        normed = scale * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps))
        return normed if shift is None else normed + shift
