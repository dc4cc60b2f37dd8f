"""ESM."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from convkit.generate.families.family import Family

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


@dataclass(frozen=True, kw_only=True)
class Esm(Family):
    """An ESM-2, a language model of proteins; ``positions`` are those that count."""

    models: ClassVar[Mapping[str, str]] = {"mlm": "EsmForMaskedLM", "none": "EsmModel"}

    head: Literal["mlm", "none"] = "mlm"
    #: whether the MLM output is tied to the word embedding
    tied: bool = True
    position: Literal["rotary", "absolute"] = "rotary"
    rope_theta: float = 5000.0
    #: whether masked tokens are dropped, and the others scaled
    token_dropout: bool = True
    #: a norm behind the embeddings
    embedding_norm: bool = False
    vocab: int = 37

    def config(self) -> PreTrainedConfig:
        """See :meth:`Family.config`."""
        from transformers import EsmConfig

        padding = 2
        rows = self.positions + (padding + 1 if self.position == "absolute" else 0)
        return EsmConfig(
            **self.sizes() | {"max_position_embeddings": rows},
            pad_token_id=padding,
            mask_token_id=self.vocab - 2,
            position_embedding_type=self.position,
            rope_theta=self.rope_theta,
            token_dropout=self.token_dropout,
            emb_layer_norm_before=self.embedding_norm,
            layer_norm_eps=5e-5,
            tie_word_embeddings=self.tied,
        )
