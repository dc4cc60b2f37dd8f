"""A conversion that was asked to cast: the source, rounded as the target stores it.

Rounding is elementwise, so it may be done before or after any rearrangement. What the cast itself
costs is then measured apart from what the conversion got wrong.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from convkit.checkpoint.tensors import value_dtype

if TYPE_CHECKING:
    from torch import Tensor

    from convkit.oracles.opening import Opened
    from convkit.oracles.oracle import Oracle


def rounded(source: Opened, target: Opened) -> Oracle:
    """The source's model with each role rounded to the dtype in which the target stores it."""
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
