"""Compute derived tensors again, which one layout stores and the other computes.

Each recipe follows the framework that stores the tensor, in the same arithmetic, because the result is compared bit by
bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from convkit.checkpoint import Tensors, TensorSpec
from convkit.checkpoint.tensors import carrier, value_dtype
from convkit.errors import ConvkitError
from convkit.verify.blocks import spans
from convkit.verify.documents import Fold

#: elements of a leaf that are read together
_MOST = 1 << 20


def derive(
    recipe: str, arguments: Mapping[str, Any], spec: TensorSpec, of: Sequence[str], beside: Tensors
) -> np.ndarray | None:
    """Compute the elements (1-D, carrier) of a derived leaf; None if no recipe of this name gives this shape.

    ``of`` names the leaves of ``beside`` from which it is derived.
    """
    with _as_planned(recipe):
        if recipe in _OF_LEAVES:
            values = _OF_LEAVES[recipe](spec.shape, [_Leaf(beside, key) for key in of], **arguments)
        elif recipe in _RECIPES:
            values = _RECIPES[recipe](**arguments)
        else:
            return None
        if values.size != spec.size:
            return None
        return np.ascontiguousarray(values.astype(value_dtype(spec.dtype))).view(carrier(spec.dtype)).reshape(-1)


@contextmanager
def _as_planned(recipe: str) -> Iterator[None]:
    """Arguments and leaves come from a plan, and may be anything, NaN and infinities too.

    Raises:
        ConvkitError: the recipe can't take them.
    """
    try:
        with np.errstate(all="ignore"):
            yield
    except (TypeError, ValueError, LookupError, ArithmeticError, MemoryError) as error:
        problem = f"recipe {recipe!r} can't be followed with what the plan gives it: {error}"
        raise ConvkitError(problem, remedy="make the plan again, or report it") from None


class _Leaf:
    """A leaf from which another one is derived.

    Raises:
        ConvkitError: the leaf is missing.
    """

    def __init__(self, tensors: Tensors, key: str) -> None:
        self.spec = tensors.spec(key)
        self._tensors, self._key = tensors, key

    def values(self, start: int, stop: int) -> np.ndarray:
        """The elements as numbers."""
        return self._tensors.read(self._key, start, stop).view(value_dtype(self.spec.dtype))

    def largest(self, layers: int) -> list[float]:
        """The largest magnitude of each of ``layers`` equal parts."""
        found = []
        for start in (layer * self.spec.size // layers for layer in range(layers)):
            top = 0.0
            for low, high in spans(self.spec.size // layers, _MOST):
                block = self.values(start + low, start + high).astype(np.float64)
                top = float(np.maximum(top, np.maximum(block.max(), -block.min())))
            found.append(np.nan if np.isnan(top) else abs(top))
        return found


def _positions(n: int) -> np.ndarray:
    """``position_ids`` of BERT in transformers: 0 ... n-1."""
    return np.arange(n)


def _causal_mask(n: int) -> np.ndarray:
    """``attn.bias`` of GPT-2 in transformers: each position sees itself and those before it."""
    return np.arange(n)[:, None] >= np.arange(n)


def _constant(value: float) -> np.ndarray:
    """``attn.masked_bias`` of GPT-2 in transformers."""
    return np.array(value)


def _inverse_frequencies(theta: float, dim: int) -> np.ndarray:
    """``inv_freq`` of llama in transformers, computed in float32: 1 / theta^(2i/dim)."""
    powers = np.arange(0, dim, 2).astype(np.float32) / np.float32(dim)
    return np.float32(1) / np.power(np.float32(theta), powers)


def _alibi_slopes(heads: int) -> np.ndarray:
    """ALiBi's slopes, a column: head h of a power of two n has 2^(-8h/n); further heads lie half-way between those."""
    whole = 2 ** int(np.log2(heads))
    exponents = [*np.arange(1, whole + 1), *np.arange(0.5, heads - whole)]
    return np.exp2(np.multiply(exponents, -8.0 / whole)).reshape(-1, 1)


def _filled(shape: tuple[int, ...], _: Sequence[_Leaf], value: float) -> np.ndarray:
    """One number everywhere: TE's FP8 metas start with ones and zeros; slots that T5X doesn't use are zeros."""
    return np.zeros(shape) + value


def _repeated(shape: tuple[int, ...], of: Sequence[_Leaf]) -> np.ndarray:
    """A leaf repeated along a new first axis, as Pax keeps the counts of stacked layers."""
    (leaf,) = of
    return np.stack([leaf.values(0, leaf.spec.size).reshape(leaf.spec.shape)] * shape[0])


def _amax_history(shape: tuple[int, ...], of: Sequence[_Leaf]) -> np.ndarray:
    """TE 1.8 and later: the kernel's magnitude is the latest entry of its history; earlier ones are unknown, and 0."""
    layers = int(np.prod(shape[:-1]))
    known = np.array(of[0].largest(layers), np.float32)[:, None]
    return np.hstack([known, np.zeros((layers, shape[-1] - 1), np.float32)])


def _amax_rows(shape: tuple[int, ...], of: Sequence[_Leaf]) -> np.ndarray:
    """TE before 1.8: such a row for each GEMM, between the rows of its input and of its gradient."""
    *stack, rows, slots = shape
    layers = int(np.prod(stack))
    unknown = np.zeros((layers, slots), np.float32)
    parts = [part for leaf in of for part in (unknown, _amax_history((layers, slots), [leaf]), unknown)]
    return np.stack(parts, axis=1) if len(parts) == rows else np.empty(0)


def _fp8_max(shape: tuple[int, ...], _: Sequence[_Leaf]) -> np.ndarray:
    """TE before 1.8: for each GEMM the largest e4m3 for input and kernel, and the largest e5m2 for the gradient."""
    import ml_dtypes

    forward, backward = (float(ml_dtypes.finfo(name).max) for name in ("float8_e4m3fn", "float8_e5m2"))
    return np.tile([forward, forward, backward], int(np.prod(shape)) // 3)


class Seen(Tensors):
    """A checkpoint with the leaf ``fold.key`` as the other layout has it: multiplied."""

    def __init__(self, checkpoint: Tensors, fold: Fold) -> None:
        self.leaves = checkpoint.leaves
        self._checkpoint = checkpoint
        self._fold = fold

    def read(self, key: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """See :meth:`Tensors.read`."""
        if key != self._fold.key:
            return self._checkpoint.read(key, start, stop)
        leaf, factors = _Leaf(self._checkpoint, key), self.factors()
        stop = leaf.spec.size if stop is None else stop
        blocks = [np.empty(0, carrier(leaf.spec.dtype))]
        for low, high in ((start + low, start + high) for low, high in spans(stop - start, _MOST)):
            with _as_planned(self._fold.recipe):
                values = leaf.values(low, high).astype(np.float64) * factors(low, high)
                blocks.append(values.astype(value_dtype(leaf.spec.dtype)).view(carrier(leaf.spec.dtype)))
        return np.concatenate(blocks)

    def granularity(self, key: str) -> int:
        """See :meth:`Tensors.granularity`."""
        return self._checkpoint.granularity(key)

    def continues(self, key: str) -> bool:
        """See :meth:`Tensors.continues`."""
        return self._checkpoint.continues(key)

    def lies_open(self, key: str) -> bool:
        """See :meth:`Tensors.lies_open`."""
        return key != self._fold.key and self._checkpoint.lies_open(key)

    def rows(self, key: str, starts: Sequence[int], length: int) -> np.ndarray:
        """See :meth:`Tensors.rows`."""
        return self._checkpoint.rows(key, starts, length)

    def factors(self) -> Callable[[int, int], np.ndarray]:
        """The factors by which the elements of a range of the leaf are multiplied."""
        fold, leaf = self._fold, _Leaf(self._checkpoint, self._fold.key)
        by = _Leaf(self._checkpoint, fold.by) if fold.by else None
        with _as_planned(fold.recipe):
            return _FOLDS[fold.recipe](leaf.spec, by, fold.arguments)


def _number(_: TensorSpec, by: None, arguments: Mapping[str, Any]) -> Callable[[int, int], np.ndarray]:
    """The same number for all elements: muP multiplies by it when the model runs, others have it in their weights."""
    return lambda start, stop: np.repeat(np.float64(arguments["factor"]), stop - start)


def _per_dim(spec: TensorSpec, by: _Leaf, arguments: Mapping[str, Any]) -> Callable[[int, int], np.ndarray]:
    """Pax's scale for each dim of a query head: softplus, normalised so that 0 scales by 1."""
    dim = by.spec.shape[-1]
    scale = np.logaddexp(0.0, by.values(0, by.spec.size).astype(np.float64)).reshape(-1, dim) * 1.442695041
    parts = arguments["parts"]
    grid = (len(scale), parts, spec.size // (len(scale) * parts * dim), dim)

    def factors(start: int, stop: int) -> np.ndarray:
        layer, part, _, column = np.unravel_index(np.arange(start, stop), grid)
        return np.where(part == 0, scale[layer, column], 1.0)

    return factors


_FOLDS: dict[str, Callable[..., Callable[[int, int], np.ndarray]]] = {"number": _number, "per-dim scale": _per_dim}
_OF_LEAVES: dict[str, Callable[..., np.ndarray]] = {
    "filled": _filled,
    "repeated": _repeated,
    "amax history": _amax_history,
    "amax rows": _amax_rows,
    "fp8 max": _fp8_max,
}
_RECIPES: dict[str, Callable[..., np.ndarray]] = {
    "positions": _positions,
    "causal mask": _causal_mask,
    "constant": _constant,
    "inverse frequencies": _inverse_frequencies,
    "alibi slopes": _alibi_slopes,
}
