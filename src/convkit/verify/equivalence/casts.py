"""Round the source as the target stores it, for a conversion that casts, or that shifts what it stores.

A framework may store the scales of norms minus one, and the other as they are: the sum is rounded, even to the same
dtype. Rounding is elementwise, so it commutes with every rearrangement. This separates its error from errors of the
conversion.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from convkit.checkpoint.tensors import value_dtype
from convkit.oracles.tensors import OnDemand
from convkit.oracles.windows import Slice, Window

if TYPE_CHECKING:
    from torch import Tensor

    from convkit.oracles.oracle import Oracle
    from convkit.oracles.parts import Part


class Rounded(OnDemand):
    """The tensors of the source, each part rounded to the dtype in which the target stores its role, and as it does.

    Args:
        below: the source's tensors.
        source: the model that reads them.
        target: the target's.
        stored: the dtypes of the target's tensors, by key; those that aren't in it aren't rounded.
    """

    def __init__(self, below: OnDemand, source: Oracle, target: Oracle, stored: Mapping[str, str]) -> None:
        self._below = below
        self._parts: dict[str, dict[Part, tuple[str, float]]] = {}
        for role, part in source.roles.items():
            if role in target.roles and (dtype := stored.get(target.roles[role].key)):
                self._parts.setdefault(part.key, {})[part] = dtype, source.offset(role) - target.offset(role)
        for copy, original in source.twins.items():
            if original in self._parts:
                self._parts[copy] = self._parts[original]

    def __getitem__(self, key: str) -> Tensor:
        return self._rounded(key, self._below[key])

    def part(self, key: str, window: Window) -> Tensor:
        """See :meth:`OnDemand.part`; of a table, only the rows that are read are rounded."""
        tensor = self._below.part(key, window)
        if isinstance(window, Slice):
            return self._rounded(key, tensor, window)
        rows = tensor.movedim(window.axis, 0)
        for how in self._parts.get(key, {}).values():
            read = rows[window.rows]
            _round(read, *how)
            rows[window.rows] = read
        return tensor

    def _rounded(self, key: str, tensor: Tensor, window: Slice | None = None) -> Tensor:
        for part, how in self._parts.get(key, {}).items():
            seen = part.within(window) if window else part
            if seen is not None:
                _round(seen.view(tensor), *how)
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._below)

    def __len__(self) -> int:
        return len(self._below)

    def shape(self, key: str) -> tuple[int, ...]:
        """See :meth:`OnDemand.shape`."""
        return self._below.shape(key)


def moved(source: Oracle, target: Oracle, stored: Mapping[str, str]) -> dict[str, str]:
    """The target's tensors that hold what the source holds with a number added, and the source's dtype of each."""
    both = (role for role in source.roles if role in target.roles)
    return {
        target.roles[role].key: stored[source.roles[role].key]
        for role in both
        if source.offset(role) != target.offset(role)
    }


def _round(part: Tensor, dtype: str, by: float) -> None:
    import numpy as np
    import torch

    with np.errstate(over="ignore"):  # the target has the same infinities, and the comparison names them
        rounded = (part.numpy() + np.float32(by)).astype(value_dtype(dtype)).astype(np.float32) - np.float32(by)
    part.copy_(torch.from_numpy(rounded))
