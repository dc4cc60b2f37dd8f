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
    """An input of a model: whole numbers ``[batch, positions]``, or pixels ``[batch, channels, height, width]``.

    Attributes:
        values: the number of values, from 0 on: the size of the vocabulary for ids, 2 for a mask; 0 for pixels.
        like: the input whose shape it has; empty for one that has positions of its own.
        positions: the most positions that the model allows; None where nothing limits them.
        needed: whether the model can't run without it.
        image: channels, height and width of pixels, behind the numbers of images and tiles where the model takes
            several; empty for whole numbers.
    """

    values: int = 0
    like: str = ""
    positions: int | None = None
    needed: bool = False
    image: tuple[int, ...] = ()

    def __str__(self) -> str:
        if not self.image:
            return "whole numbers [batch, positions]"
        return f"pixels [batch, {', '.join(map(str, self.image))}]"


def model_inputs(arrays: Mapping[str, np.ndarray], inputs: Mapping[str, Input], path: Path) -> dict[str, Tensor]:
    """The arrays as a model takes them: int64, pixels float32.

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
            raise ConvkitError("missing", path=path, key=name, remedy=f"the model needs it: {wanted}")
    given = {name: arrays[name] for name in inputs if name in arrays}
    for name, array in given.items():
        if wrong := _problem(array, inputs[name], given):
            raise ConvkitError(wrong[0], path=path, key=name, remedy=wrong[1])
    dtypes = {name: "float32" if inputs[name].image else "int64" for name in given}
    return {name: torch.from_numpy(array.astype(dtypes[name])) for name, array in given.items()}


def _problem(array: np.ndarray, wanted: Input, given: Mapping[str, np.ndarray]) -> tuple[str, str] | None:
    """Why a model can't run on an array, and the remedy. The arrays before it are sound."""
    shape = list(array.shape)
    if wanted.image:
        return _problem_of_pixels(array, wanted)
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


def _problem_of_pixels(array: np.ndarray, wanted: Input) -> tuple[str, str] | None:
    if array.dtype.kind not in "fiub":
        return f"its dtype is {array.dtype}", "give numbers, such as float32"
    if array.shape[1:] != wanted.image or not array.size:
        return f"its shape is {list(array.shape)}", f"give {wanted}"
    return None
