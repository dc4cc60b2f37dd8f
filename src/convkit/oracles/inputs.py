"""What models take as input, as their oracles declare it; and whether given arrays are that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from convkit.errors import ConvkitError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor


@dataclass(frozen=True)
class Input:
    """An input of a model: whole numbers ``[batch, positions]``.

    Attributes:
        values: the number of values, from 0 on: the size of the vocabulary for ids, 2 for a mask.
        like: the input whose shape it has; empty for one that has positions of its own.
        positions: the most positions that the model allows; None where nothing limits them.
        needed: whether the model can't run without it.
    """

    values: int
    like: str = ""
    positions: int | None = None
    needed: bool = False


def model_inputs(arrays: Mapping[str, np.ndarray], inputs: Mapping[str, Input], path: Path) -> dict[str, Tensor]:
    """The arrays as a model takes them, int64.

    Args:
        arrays: by name, as they were given.
        inputs: what the model takes.
        path: of their file, for messages.

    Raises:
        ConvkitError: an array that the model doesn't take or can't run on, or one that is missing.
    """
    import torch

    for name in arrays:
        if name not in inputs:
            problem = "the model doesn't take it"
            raise ConvkitError(problem, path=path, key=name, remedy=f"it takes {', '.join(inputs)}")
    for name, wanted in inputs.items():
        if wanted.needed and name not in arrays:
            raise ConvkitError(
                "missing", path=path, key=name, remedy="the model needs it: whole numbers [batch, positions]"
            )
    given = {name: arrays[name] for name in inputs if name in arrays}
    for name, array in given.items():
        if wrong := _problem(array, inputs[name], given):
            raise ConvkitError(wrong[0], path=path, key=name, remedy=wrong[1])
    return {name: torch.from_numpy(array.astype("int64")) for name, array in given.items()}


def _problem(array: np.ndarray, wanted: Input, given: Mapping[str, np.ndarray]) -> tuple[str, str] | None:
    """Why a model can't run on an array, and the remedy. The arrays before it are sound."""
    shape = list(array.shape)
    if array.dtype.kind not in "iub":
        return f"its dtype is {array.dtype}", "give whole numbers, such as int64"
    if array.ndim != 2 or not array.size:
        return f"its shape is {shape}", "give [batch, positions], at least one of each"
    other = wanted.like or next(iter(given))
    if wanted.like and array.shape != given[other].shape:
        return f"its shape is {shape}, that of {other} is {list(given[other].shape)}", "give both the same shape"
    if len(array) != len(given[other]):
        return f"it has {len(array)} rows, {other} has {len(given[other])}", "give both the same number of rows"
    if wanted.positions is not None and array.shape[1] > wanted.positions:
        return f"{array.shape[1]} positions, the model allows {wanted.positions}", "give fewer positions"
    lowest, highest = int(array.min()), int(array.max())
    if lowest < 0 or highest >= wanted.values:
        strange = lowest if lowest < 0 else highest
        return f"has the value {strange}", f"values are 0 to {wanted.values - 1}"
    return None
