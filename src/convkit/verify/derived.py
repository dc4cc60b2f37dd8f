"""Tensors that one layout stores and the other computes: what a plan calls derived, computed again here.

Each definition is that of the framework that stores the tensor, in its arithmetic, since the result is
compared bit by bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from convkit.tensors import TensorSpec, carrier, value_dtype


def derive(recipe: str, arguments: Mapping[str, Any], spec: TensorSpec) -> np.ndarray | None:
    """The elements (1-D, carrier) of a derived leaf; None where no recipe of that name gives that shape."""
    if recipe not in _RECIPES:
        return None
    values = _RECIPES[recipe](**arguments)
    if values.size != spec.size:
        return None
    return np.ascontiguousarray(values.astype(value_dtype(spec.dtype))).view(carrier(spec.dtype)).reshape(-1)


def _positions(n: int) -> np.ndarray:
    """``position_ids`` of transformers' BERT: 0 ... n-1."""
    return np.arange(n)


def _causal_mask(n: int) -> np.ndarray:
    """``attn.bias`` of transformers' GPT-2: a position sees those that aren't after it."""
    return np.arange(n)[:, None] >= np.arange(n)


def _constant(value: float) -> np.ndarray:
    """``attn.masked_bias`` of transformers' GPT-2."""
    return np.array(value)


def _inverse_frequencies(theta: float, dim: int) -> np.ndarray:
    """``inv_freq`` of transformers' llama, in its float32: 1 / theta^(2i/dim)."""
    powers = np.arange(0, dim, 2).astype(np.float32) / np.float32(dim)
    return np.float32(1) / np.power(np.float32(theta), powers)


_RECIPES: dict[str, Callable[..., np.ndarray]] = {
    "positions": _positions,
    "causal mask": _causal_mask,
    "constant": _constant,
    "inverse frequencies": _inverse_frequencies,
}
