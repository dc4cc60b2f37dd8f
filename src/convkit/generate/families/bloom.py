"""Bloom."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from convkit.errors import UsageError
from convkit.generate.families.family import Family

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


@dataclass(frozen=True, kw_only=True)
class Bloom(Family):
    """A Bloom: scores fall with the distance, by a slope for each head; the embeddings have a norm."""

    models: ClassVar[Mapping[str, str]] = {"lm": "BloomForCausalLM", "none": "BloomModel"}

    head: Literal["lm", "none"] = "lm"
    tied: bool = True
    #: four times the hidden size; it can't be another
    intermediate: int = 0

    def __post_init__(self) -> None:
        usual = 4 * (self.hidden or 10 * self.heads)
        object.__setattr__(self, "intermediate", self.intermediate or usual)
        super().__post_init__()
        if self.intermediate != usual:
            remedy = f"a Bloom's is four times the hidden size: {usual}"
            raise UsageError(f"intermediate is {self.intermediate}", remedy=remedy)

    def config(self) -> PreTrainedConfig:
        """See :meth:`Family.config`."""
        from transformers import BloomConfig

        known: dict[str, Any] = {
            "hidden_size": self.hidden,
            "n_layer": self.layers,
            "n_head": self.heads,
            "vocab_size": self.vocab,
            "seq_length": self.positions,
            "layer_norm_epsilon": 6e-5,
            "tie_word_embeddings": self.tied,
        }
        return BloomConfig(**known)
