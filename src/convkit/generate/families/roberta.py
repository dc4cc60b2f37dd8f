"""RoBERTa."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from convkit.generate.families.family import Family

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


@dataclass(frozen=True, kw_only=True)
class Roberta(Family):
    """A RoBERTa, with its head for masked words or without; ``positions`` are those that count."""

    models: ClassVar[Mapping[str, str]] = {"mlm": "RobertaForMaskedLM", "none": "RobertaModel"}

    head: Literal["mlm", "none"] = "mlm"
    #: whether the MLM output is tied to the word embedding
    tied: bool = True
    #: the id of padding, from which positions are counted on
    padding: int = 2
    segments: int = 3
    activation: Literal["gelu", "gelu_new", "relu"] = "gelu"

    def config(self) -> PreTrainedConfig:
        """See :meth:`Family.config`."""
        from transformers import RobertaConfig

        return RobertaConfig(
            **self.sizes() | {"max_position_embeddings": self.positions + self.padding + 1},
            pad_token_id=self.padding,
            type_vocab_size=self.segments,
            layer_norm_eps=5e-5,
            hidden_act=self.activation,
            tie_word_embeddings=self.tied,
        )
