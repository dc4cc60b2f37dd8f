"""Round the source to the dtypes of the target, for a conversion that casts.

Rounding is elementwise, so it commutes with every rearrangement. This separates the error of the cast from
errors of the conversion.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from convkit.checkpoint.tensors import value_dtype

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from convkit.oracles.oracle import Oracle


def rounded(source: Oracle, target: Oracle, stored: Mapping[str, str]) -> Oracle:
    """The model of the source, each role rounded to the dtype in which the target has it ``stored``, by key."""
    changes = {
        role: _round(source.part(role), stored[target.roles[role].key]) for role in source.roles if role in target.roles
    }
    return source.rebuilt(tensors=source.edited(changes))


def _round(part: Tensor, dtype: str) -> Tensor:
    import numpy as np
    import torch

    return torch.from_numpy(part.numpy().astype(value_dtype(dtype)).astype(np.float32))
