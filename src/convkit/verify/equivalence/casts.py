"""Round the source to the dtypes of the target, for a conversion that casts.

Rounding is elementwise, so it commutes with every rearrangement. This separates the error of the cast from
errors of the conversion.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from convkit.checkpoint.tensors import value_dtype

if TYPE_CHECKING:
    from torch import Tensor

    from convkit.oracles.opening import Opened
    from convkit.oracles.oracle import Oracle


def rounded(source: Opened, target: Opened) -> Oracle:
    """The model of the source, each role rounded to the dtype in which the target stores it."""
    ours, theirs = source.oracle, target.oracle
    changes = {
        role: _round(ours.part(role), target.dtypes[theirs.roles[role].key])
        for role in ours.roles
        if role in theirs.roles
    }
    return ours.rebuilt(tensors=ours.edited(changes))


def _round(part: Tensor, dtype: str) -> Tensor:
    import numpy as np
    import torch

    return torch.from_numpy(part.numpy().astype(value_dtype(dtype)).astype(np.float32))
