"""Compute derived leaves, which one layout stores, and the other computes from the config or from other leaves.

Each recipe computes the tensor from its arguments; those of :data:`OF_LEAVES` also get the spec of the new leaf
and the leaves that it is computed from. A stored leaf is compared with the result bit by bit, so a
recipe follows the arithmetic of the framework that writes the leaf.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from convkit.checkpoint import Tensors, TensorSpec
from convkit.checkpoint.tensors import value_dtype

if TYPE_CHECKING:
    import numpy as np


class Read:
    """A leaf that a recipe reads, in the dtype that gives its elements their meaning."""

    def __init__(self, tensors: Tensors, key: str) -> None:
        self.spec = tensors.spec(key)
        self._tensors = tensors
        self._key = key

    def values(self, start: int, stop: int) -> np.ndarray:
        """Elements ``[start, stop)`` in C order, 1-D."""
        return self._tensors.read(self._key, start, stop).view(value_dtype(self.spec.dtype))

    def blocks(self, start: int, stop: int) -> Iterator[np.ndarray]:
        """All elements, a few MiB at a time."""
        for _, data in self._tensors.blocks(self._key, start=start, stop=stop):
            yield data.view(value_dtype(self.spec.dtype))


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


def alibi_slopes(heads: int) -> np.ndarray:
    """``position_embed_helper.slopes``: float64, shape (heads, 1), of which the float32 is stored.

    A power of two has the series ``r, r**2, ...`` that ends at 2**-8. Other numbers of heads take that of the power
    below, and then every second slope of the power above, from the first. ModelZoo 2.10.0,
    ``layers/AlibiPositionEmbeddingLayer.py``.
    """
    import numpy as np

    def series(count: int) -> list[float]:
        ratio: float = 2.0 ** -(8 / count)
        return [ratio * ratio**i for i in range(count)]

    below = 1 << (heads.bit_length() - 1)
    return np.array([*series(below), *series(2 * below)[::2]][:heads])[:, None]


def filled(spec: TensorSpec, _: Sequence[Read], value: float) -> np.ndarray:
    """One number everywhere."""
    import numpy as np

    return np.full(spec.shape, value)


def repeated(spec: TensorSpec, leaves: Sequence[Read]) -> np.ndarray:
    """Equal copies of a leaf along the first axis: a count for each of the stacked layers."""
    import numpy as np

    one = leaves[0]
    return np.broadcast_to(one.values(0, one.spec.size).reshape(one.spec.shape), spec.shape)


def amax_history(spec: TensorSpec, leaves: Sequence[Read]) -> np.ndarray:
    """The history of a kernel's largest magnitude, where only slot 0, the latest, is known: shape (..., slots).

    TransformerEngine v1.8 ... v2.18, ``jax/flax/module.py`` (zeros) and ``jax/fp8.py`` (slot 0 is the latest).
    """
    import numpy as np

    history = np.zeros(spec.shape, np.float32)
    history[..., 0] = _largest(leaves[0], spec.shape[:-1])
    return history


def amax_rows(spec: TensorSpec, leaves: Sequence[Read]) -> np.ndarray:
    """The histories of all tensors of a module, three rows per GEMM: input, kernel, gradient; shape (..., rows, slots).

    TransformerEngine v1.5 ... v1.7, ``jax/fp8.py``.
    """
    import numpy as np

    history = np.zeros(spec.shape, np.float32)
    for gemm, leaf in enumerate(leaves):
        history[..., 3 * gemm + 1, 0] = _largest(leaf, spec.shape[:-2])
    return history


def fp8_max(spec: TensorSpec, _: Sequence[Read]) -> np.ndarray:
    """The largest number of each tensor's format, shape (..., rows, 1): e4m3 forward (448), e5m2 backward (57344)."""
    import numpy as np

    return np.broadcast_to(np.resize([448.0, 448.0, 57344.0], spec.shape[-2])[:, None], spec.shape)


def number(spec: TensorSpec, _: Read | None, start: int, stop: int, factor: float) -> np.ndarray:
    """One factor everywhere."""
    import numpy as np

    return np.full(stop - start, factor, np.float64)


def per_dim_scale(spec: TensorSpec, by: Read, start: int, stop: int, parts: int) -> np.ndarray:
    """The factors, beside 1/sqrt(d), by which Pax multiplies queries: for a leaf (..., d), or its first part.

    ``by`` is ``per_dim_scale`` (d), or (layers, d) if stacked. Praxis, ``layers/attentions.py``, PerDimScale.
    """
    import numpy as np

    with np.errstate(all="ignore"):
        scale = by.values(0, by.spec.size).astype(np.float64)
        factors = 1.442695041 * (np.maximum(scale, 0.0) + np.log1p(np.exp(-np.abs(scale))))
    layers, dim = math.prod(by.spec.shape[:-1]), by.spec.shape[-1]
    size = spec.size // layers
    place = np.arange(start, stop)
    folded = place % size < size // parts
    return np.where(folded, factors[place // size * dim + place % dim], 1.0)


def _largest(leaf: Read, layers: tuple[int, ...]) -> np.ndarray:
    """The largest magnitude of each layer of a leaf; a NaN wins."""
    import numpy as np

    count = math.prod(layers)
    size = leaf.spec.size // max(1, count)
    with np.errstate(all="ignore"):
        tops = [[float(np.abs(block).max()) for block in leaf.blocks(n * size, (n + 1) * size)] for n in range(count)]
        # one canonical NaN, whatever its bits were
        found = [math.nan if any(map(math.isnan, top)) else max(top, default=0.0) for top in tops]
        return np.array(found, np.float32).reshape(layers)


RECIPES: dict[str, Any] = {
    "positions": positions,
    "causal mask": causal_mask,
    "constant": constant,
    "inverse frequencies": inverse_frequencies,
    "alibi slopes": alibi_slopes,
}
#: gives the factors of elements ``[start, stop)`` of a leaf, float64
FACTORS: dict[str, Any] = {"number": number, "per-dim scale": per_dim_scale}
OF_LEAVES: dict[str, Any] = {
    "filled": filled,
    "repeated": repeated,
    "amax history": amax_history,
    "amax rows": amax_rows,
    "fp8 max": fp8_max,
}
