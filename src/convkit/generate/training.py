"""Base of the T5X and Pax families: weights in the middle of their training, with Adam's moments.

They are written by :mod:`convkit.formats`, whose tests compare its output with files of T5X and Paxml.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from convkit.generate.generator import Generator, Parameter, drawn
from convkit.generate.sizes import at_least_one

if TYPE_CHECKING:
    import numpy as np

#: number of trained steps; the size of a gradient
STEP, GRADIENT = 7, 1e-3


@dataclass(frozen=True, kw_only=True)
class Training(Generator):
    """The options of both."""

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

    def leaves(self) -> dict[str, np.ndarray]:
        """Every array by name."""
        from convkit.checkpoint.tensors import value_dtype

        kind = value_dtype(self.dtype)
        weights = {key: drawn(self.seed, key, parameter).astype(kind) for key, parameter in self.parameters().items()}
        return weights | self.state()


def moments(seed: int, keys: tuple[str, str], parameter: Parameter) -> dict[str, np.ndarray]:
    """The first and second moments of a parameter's gradient, by name."""
    first, second = (drawn(seed, key, Parameter(parameter.shape, GRADIENT)) for key in keys)
    return {keys[0]: first.astype("float32"), keys[1]: (second**2).astype("float32")}
