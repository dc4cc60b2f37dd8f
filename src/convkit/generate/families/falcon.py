"""Falcon."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from convkit.generate.families.family import Family
from convkit.generate.sizes import grouped_and_rotated

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


@dataclass(frozen=True, kw_only=True)
class Falcon(Family):
    """A Falcon: attention and feed-forward side by side, behind one norm or two; heads share keys and values.

    One norm with one key for all heads is the 7b's architecture, two norms with groups that of the 40b and 180b, and
    one norm with groups that of the 11b; ``kv_heads`` equal to ``heads`` shares nothing.
    """

    models: ClassVar[Mapping[str, str]] = {"lm": "FalconForCausalLM", "none": "FalconModel"}

    head: Literal["lm", "none"] = "lm"
    kv_heads: int = 1
    norms: Literal["one", "two"] = "one"
    bias: bool = False
    tied: bool = True
    activation: Literal["gelu", "gelu_new", "relu"] = "gelu"
    rope: Literal["default", "linear", "yarn"] = "default"
    rope_theta: float = 5000.0

    def __post_init__(self) -> None:
        super().__post_init__()
        grouped_and_rotated(self.hidden, self.heads, self.kv_heads)

    def config(self) -> PreTrainedConfig:
        """See :meth:`Family.config`."""
        from transformers import FalconConfig

        grouped = self.norms == "two" or 1 < self.kv_heads < self.heads
        scaling = {} if self.rope == "default" else {"factor": 4.0}
        if self.rope == "yarn":
            scaling["original_max_position_embeddings"] = max(self.positions // 4, 1)
        return FalconConfig(
            hidden_size=self.hidden,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_kv_heads=self.kv_heads,
            ffn_hidden_size=self.intermediate,
            vocab_size=self.vocab,
            max_position_embeddings=self.positions,
            layer_norm_epsilon=6e-5,
            activation=self.activation,
            bias=self.bias,
            tie_word_embeddings=self.tied,
            new_decoder_architecture=grouped,
            num_ln_in_parallel_attn=(2 if self.norms == "two" else 1) if grouped else None,
            multi_query=self.kv_heads == 1,
            bos_token_id=self.vocab - 1,
            eos_token_id=self.vocab - 1,
            rope_parameters={"rope_type": self.rope, "rope_theta": self.rope_theta, **scaling},
        )
