"""Base of the T5X and Pax families: weights in the middle of their training, with Adam's moments.

They are written by :mod:`convkit.formats`, whose tests compare its output with files of T5X and Paxml.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from convkit.generate.sizes import at_least_one

if TYPE_CHECKING:
    import numpy as np

#: number of trained steps; the size of a gradient
STEP, GRADIENT = 7, 1e-3


@dataclass(frozen=True, slots=True)
class Parameter:
    """A tensor of a model: bell-shaped around its mean."""

    shape: tuple[int, ...]
    std: float
    mean: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Training(ABC):
    """The options of both. Sizes are awkward on purpose, as in all families."""

    seed: int = 0
    #: dtype of the weights; moments are float32
    dtype: Literal["float32", "bfloat16"] = "float32"
    #: whether there is an optimizer state
    adam: bool = True
    gated: bool = True
    heads: int = 6
    head_dim: int = 10
    hidden: int = 44
    layers: int = 3
    intermediate: int = 84
    vocab: int = 211

    def __post_init__(self) -> None:
        at_least_one(self, "heads", "head_dim", "hidden", "layers", "intermediate", "vocab")

    @abstractmethod
    def parameters(self) -> dict[str, Parameter]:
        """The model's tensors by name in the checkpoint."""

    @abstractmethod
    def state(self) -> dict[str, np.ndarray]:
        """The counts, and the moments if there are any, by name."""

    @abstractmethod
    def write(self, folder: Path) -> None:
        """Write the checkpoint into a folder, which is made if it doesn't exist."""

    def leaves(self) -> dict[str, np.ndarray]:
        """Every array by name."""
        from convkit.checkpoint.tensors import value_dtype

        kind = value_dtype(self.dtype)
        weights = {key: drawn(self.seed, key, parameter).astype(kind) for key, parameter in self.parameters().items()}
        return weights | self.state()


def drawn(seed: int, key: str, parameter: Parameter) -> np.ndarray:
    """Weights drawn from a seed and their name."""
    from convkit.generate.weights import draw

    return (parameter.mean + parameter.std * draw(seed, key, prod(parameter.shape))).reshape(parameter.shape)


def moments(seed: int, keys: tuple[str, str], parameter: Parameter) -> dict[str, np.ndarray]:
    """The first and second moments of a parameter's gradient, by name."""
    first, second = (drawn(seed, key, Parameter(parameter.shape, GRADIENT)) for key in keys)
    return {keys[0]: first.astype("float32"), keys[1]: (second**2).astype("float32")}


def write(format: str, folder: Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, Any]) -> None:
    """Write arrays in a format."""
    from convkit.checkpoint import Leaf, TensorSpec, WriteOptions
    from convkit.checkpoint.tensors import carrier
    from convkit.formats import get_format

    leaves = [Leaf(key, TensorSpec(array.shape, array.dtype.name)) for key, array in arrays.items()]
    folder.parent.mkdir(parents=True, exist_ok=True)
    writer = get_format(format).create(folder, leaves, WriteOptions(metadata=metadata))
    try:
        for key, array in arrays.items():
            writer.write(key, 0, array.reshape(-1).view(carrier(array.dtype.name)))
            writer.finish(key)
        writer.commit()
    finally:
        writer.close()
