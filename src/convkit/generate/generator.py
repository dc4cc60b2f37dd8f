"""Base of the families that write their checkpoints themselves, of convkit and of other packages; and how they draw.

A family is a frozen dataclass, whose fields are the options of ``generated://family?option=value``: numbers, texts,
true or false, and ``Literal`` choices.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, kw_only=True)
class Generator(ABC):
    """The options of a family. Sizes are awkward on purpose, so that a wrong reshape doesn't fit by accident."""

    #: the layout of what it writes, by which tables of campaigns are checked; empty where that depends on the options
    layout: ClassVar[str] = ""

    #: the weights depend only on the seed and on their names
    seed: int = 0

    @abstractmethod
    def write(self, folder: Path) -> None:
        """Write the checkpoint into a folder, which is made if it doesn't exist."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A tensor of a model: bell-shaped around its mean."""

    shape: tuple[int, ...]
    std: float
    mean: float = 0.0


def drawn(seed: int, key: str, parameter: Parameter) -> np.ndarray:
    """Weights drawn from a seed and their name; float64."""
    from convkit.generate.weights import draw

    return (parameter.mean + parameter.std * draw(seed, key, prod(parameter.shape))).reshape(parameter.shape)


def write_arrays(
    format: str, path: Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, Any] | None = None
) -> None:
    """Write arrays in a format, as a new checkpoint at ``path``: a folder, or a file where the format has files."""
    from convkit.checkpoint import Leaf, TensorSpec, WriteOptions
    from convkit.checkpoint.tensors import carrier
    from convkit.formats import get_format

    leaves = [Leaf(key, TensorSpec(array.shape, array.dtype.name)) for key, array in arrays.items()]
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = get_format(format).create(path, leaves, WriteOptions(metadata=metadata or {}))
    try:
        for key, array in arrays.items():
            writer.write(key, 0, array.reshape(-1).view(carrier(array.dtype.name)))
            writer.finish(key)
        writer.commit()
    finally:
        writer.close()
