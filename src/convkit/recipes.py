"""Leaves that follow from the config: what one layout stores and the other computes.

Each recipe gives the tensor from its arguments. A stored leaf is compared with it bit by bit, so a
recipe states the arithmetic of the framework that writes the leaf.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


def positions(n: int) -> np.ndarray:
    """``position_ids``: int64, shape (1, n), 0 ... n-1 (transformers, ``models/bert/modeling_bert.py``)."""
    import numpy as np

    return np.arange(n, dtype=np.int64)[None]


def causal_mask(n: int) -> np.ndarray:
    """``attn.bias``: uint8, shape (1, 1, n, n), ones on and below the diagonal (transformers 4, GPT-2)."""
    import numpy as np

    return np.tril(np.ones((n, n), dtype=np.uint8))[None, None]


def constant(value: float) -> np.ndarray:
    """``attn.masked_bias``: float32, 0-d."""
    import numpy as np

    return np.asarray(value, dtype=np.float32)


def inverse_frequencies(theta: float, dim: int) -> np.ndarray:
    """``rotary_emb.inv_freq``: float32, shape (dim/2,), ``1 / theta**(2i/dim)`` (transformers, llama)."""
    import numpy as np

    exponents = np.arange(0, dim, 2, dtype=np.float32) / np.float32(dim)
    return (np.float32(1.0) / np.float32(theta) ** exponents).astype(np.float32)


RECIPES: dict[str, Any] = {
    "positions": positions,
    "causal mask": causal_mask,
    "constant": constant,
    "inverse frequencies": inverse_frequencies,
}
