"""T5."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from convkit.generate.families.family import Family
from convkit.generate.sizes import at_least_one

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel


@dataclass(frozen=True, kw_only=True)
class T5(Family):
    """A T5, whose heads needn't share the hidden size out; ``layers`` counts the encoder's."""

    models: ClassVar[Mapping[str, str]] = {"lm": "T5ForConditionalGeneration"}

    head: Literal["lm"] = "lm"
    #: whether the head is the embedding, as in the first T5; later ones have a head of its own
    tied: bool = True
    gated: bool = False
    activation: Literal["relu", "gelu", "gelu_new", "silu"] = "relu"
    decoder_layers: int = 2
    head_dim: int = 14
    buckets: int = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least_one(self, "decoder_layers", "head_dim", "buckets")

    def config(self) -> PreTrainedConfig:
        """See :meth:`Family.config`."""
        from transformers import T5Config

        fields: dict[str, Any] = {
            "d_model": self.hidden,
            "d_kv": self.head_dim,
            "d_ff": self.intermediate,
            "num_layers": self.layers,
            "num_decoder_layers": self.decoder_layers,
            "num_heads": self.heads,
            "vocab_size": self.vocab,
            "relative_attention_num_buckets": self.buckets,
            "layer_norm_epsilon": 6e-5,
            "feed_forward_proj": f"gated-{self.activation}" if self.gated else self.activation,
            "dense_act_fn": self.activation,
            "tie_word_embeddings": self.tied,
        }
        return T5Config(**fields)

    def model(self) -> PreTrainedModel:
        """See :meth:`Family.model`; the class ties its head in any case, and a checkpoint may have one of its own."""
        import torch

        made: Any = super().model()
        if not self.tied:
            made.lm_head.weight = torch.nn.Parameter(torch.empty_like(made.shared.weight))
        found: PreTrainedModel = made
        return found
