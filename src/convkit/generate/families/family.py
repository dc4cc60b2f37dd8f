"""What every family of the library's has: a dataclass, whose fields are the options.

Sizes are awkward on purpose, so that a wrong reshape doesn't fit by accident. So are the constants that a converter
could forget without notice if they were the other framework's defaults (norm epsilon, rotary base).
``intermediate`` and ``vocab`` are odd sizes, ``positions`` leaves room for a probe of 256.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from convkit.errors import UsageError
from convkit.generate.sizes import at_least_one

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel


@dataclass(frozen=True, kw_only=True)
class AnyFamily(ABC):
    """The options of all families. A family's own option ``head`` chooses among its ``models``."""

    #: heads, and the names of the classes of transformers that have them
    models: ClassVar[Mapping[str, str]]

    #: the weights depend only on the seed and on their names
    seed: int = 0
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    #: ``torch`` is pytorch_model.bin, which has tied weights under all of their names
    format: Literal["safetensors", "torch"] = "safetensors"
    #: the largest shard, in transformers' notation: 100KB, 5GB
    shard_size: str = "50GB"

    heads: int = 6
    #: default: ten times the heads
    hidden: int = 0
    layers: int = 3
    intermediate: int = 84

    def __post_init__(self) -> None:
        at_least_one(self, "heads", "layers", "intermediate")
        if not self.hidden:
            object.__setattr__(self, "hidden", 10 * self.heads)
        if self.hidden % self.heads:
            raise UsageError(f"hidden {self.hidden} isn't a multiple of heads {self.heads}")

    def sizes(self) -> dict[str, Any]:
        """The fields of sizes under the names that most classes have for them."""
        return {
            "hidden_size": self.hidden,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "intermediate_size": self.intermediate,
        }

    @abstractmethod
    def config(self) -> PreTrainedConfig:
        """The transformers configuration."""

    def parts(self) -> Mapping[str, AnyFamily]:
        """The models of one that lies in folders, by the names of those; empty for any other."""
        return {}

    def architecture(self) -> type[PreTrainedModel]:
        """The transformers model class."""
        import transformers

        found: type[PreTrainedModel] = getattr(transformers, self.models[vars(self)["head"]])
        return found

    def model(self) -> PreTrainedModel:
        """The model, with weights of any kind."""
        return self.architecture()(self.config())


@dataclass(frozen=True, kw_only=True)
class Family(AnyFamily):
    """The options of models of text."""

    vocab: int = 211
    positions: int = 320

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least_one(self, "vocab", "positions")

    def sizes(self) -> dict[str, Any]:
        """See :meth:`AnyFamily.sizes`."""
        return super().sizes() | {"vocab_size": self.vocab, "max_position_embeddings": self.positions}
