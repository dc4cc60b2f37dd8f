"""Relative positions as T5 has them: a bias a head and bucket of distances."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

#: the distance from which on all share the last bucket
FARTHEST = 128


def relative(table: Tensor, length: int, both_ways: bool) -> Tensor:
    """``[heads, length, length]``, added to scores, from a table ``[buckets, heads]``.

    Half of the buckets have one distance each, the others ever more of them. Looking both ways, later keys have the
    second half of the table.
    """
    import torch

    buckets = table.shape[0] // 2 if both_ways else table.shape[0]
    positions = torch.arange(length)
    before = positions[:, None] - positions[None, :]
    first = buckets * (before < 0) if both_ways else torch.zeros_like(before)
    distance = before.abs() if both_ways else before.clamp(min=0)
    exact = buckets // 2
    ratio = torch.log(distance.clamp(min=1).float() / exact) / math.log(FARTHEST / exact)
    far = (exact + (ratio * (buckets - exact)).long()).clamp(max=buckets - 1)
    return table[first + torch.where(distance < exact, distance, far)].movedim(-1, 0)
