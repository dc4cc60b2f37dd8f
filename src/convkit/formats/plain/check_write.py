"""Checks every write: its tensor was laid out, and its elements lie within the tensor."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from convkit.checkpoint import TensorSpec
from convkit.checkpoint.tensors import carrier
from convkit.errors import ConvkitError

if TYPE_CHECKING:
    import numpy as np


def check_write(path: Path, key: str, spec: TensorSpec | None, start: int, data: np.ndarray) -> TensorSpec:
    """The leaf's spec, after checking that the data fits it; ``spec`` is None if the leaf wasn't laid out.

    Raises:
        ConvkitError: the data doesn't fit. That is a bug in the caller, not the user's mistake.
    """
    if spec is None:
        raise ConvkitError("no tensor of this name was laid out", path=path, key=key, remedy="report this")
    if data.dtype != carrier(spec.dtype) or start < 0 or start + data.size > spec.size:
        raise ConvkitError(
            f"elements {start}..{start + data.size} of {data.dtype} don't fit {spec.dtype}{list(spec.shape)}",
            path=path,
            key=key,
            remedy="report this: the executor must write what was laid out",
        )
    return spec
