"""GPT-NeoX."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from convkit.errors import UsageError
from convkit.generate.families.family import Family

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


@dataclass(frozen=True, kw_only=True)
class GptNeox(Family):
    """A GPT-NeoX: attention and feed-forward side by side behind two norms, part of each head rotated."""

    models: ClassVar[Mapping[str, str]] = {"lm": "GPTNeoXForCausalLM", "none": "GPTNeoXModel"}

    head: Literal["lm", "none"] = "lm"
    tied: bool = False
    attention_bias: bool = True
    activation: Literal["gelu", "gelu_new", "relu"] = "gelu"
    #: share of a head that is rotated
    rotated: float = 0.4
    rope_theta: float = 5000.0

    def __post_init__(self) -> None:
        super().__post_init__()
        own = int(self.hidden // self.heads * self.rotated)
        if own % 2 or not 0 < self.rotated <= 1 or not own:
            raise UsageError(
                f"rotated is {self.rotated}: {own} dimensions of a head", remedy="it must be an even number"
            )

    def config(self) -> PreTrainedConfig:
        """See :meth:`Family.config`."""
        from transformers import GPTNeoXConfig

        return GPTNeoXConfig(
            **self.sizes(),
            layer_norm_eps=6e-5,
            hidden_act=self.activation,
            tie_word_embeddings=self.tied,
            attention_bias=self.attention_bias,
            rope_parameters={
                "rope_type": "default",
                "rope_theta": self.rope_theta,
                "partial_rotary_factor": self.rotated,
            },
        )
