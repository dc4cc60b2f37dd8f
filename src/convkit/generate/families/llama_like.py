"""Decoders like LLaMA: grouped keys, rotary positions, a gated feed-forward part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from convkit.errors import UsageError
from convkit.generate.families.family import Family
from convkit.generate.sizes import at_least_one, grouped_and_rotated

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


@dataclass(frozen=True, kw_only=True)
class LlamaLike(Family):
    """Grouped-query attention, rotary positions, gated MLP."""

    head: Literal["lm", "none"] = "lm"
    kv_heads: int = 2
    tied: bool = False
    activation: Literal["silu", "gelu", "relu"] = "silu"
    rope: Literal["default", "linear", "llama3", "yarn", "longrope"] = "default"
    rope_theta: float = 5000.0

    def __post_init__(self) -> None:
        super().__post_init__()
        grouped_and_rotated(self.hidden, self.heads, self.kv_heads)

    def fields(self) -> dict[str, Any]:
        """The fields of the configuration that all such families have."""
        return {
            **self.sizes(),
            "num_key_value_heads": self.kv_heads,
            "rms_norm_eps": 3e-5,
            "hidden_act": self.activation,
            "tie_word_embeddings": self.tied,
            "rope_parameters": self._rope(),
        }

    def _rope(self) -> dict[str, Any]:
        # a fifth of the positions counts as the trained length, so that the probe reaches scaled positions
        original = max(self.positions // 5, 1)
        pairs = self.hidden // self.heads // 2
        scaling: dict[str, dict[str, Any]] = {
            "default": {},
            "linear": {"factor": 4.0},
            "llama3": {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0},
            "yarn": {"factor": self.positions / original},
            "longrope": {
                "short_factor": [1.0 + 0.1 * pair for pair in range(pairs)],
                "long_factor": [1.0 + 0.7 * pair for pair in range(pairs)],
                "factor": self.positions / original,
            },
        }
        if self.rope in ("llama3", "yarn", "longrope"):
            scaling[self.rope]["original_max_position_embeddings"] = original
        return {"rope_type": self.rope, "rope_theta": self.rope_theta, **scaling[self.rope]}


@dataclass(frozen=True, kw_only=True)
class Llama(LlamaLike):
    """A llama."""

    models: ClassVar[Mapping[str, str]] = {"lm": "LlamaForCausalLM", "none": "LlamaModel"}

    attention_bias: bool = False
    mlp_bias: bool = False

    def config(self) -> PreTrainedConfig:
        """See :meth:`Family.config`."""
        from transformers import LlamaConfig

        return LlamaConfig(attention_bias=self.attention_bias, mlp_bias=self.mlp_bias, **self.fields())


@dataclass(frozen=True, kw_only=True)
class Mistral(LlamaLike):
    """A mistral: each position sees a window of those before it; 0: all of them."""

    models: ClassVar[Mapping[str, str]] = {"lm": "MistralForCausalLM", "none": "MistralModel"}

    window: int = 24

    def config(self) -> PreTrainedConfig:
        """See :meth:`Family.config`."""
        from transformers import MistralConfig

        return MistralConfig(sliding_window=self.window or None, **self.fields())


@dataclass(frozen=True, kw_only=True)
class Mixtral(LlamaLike):
    """A mixtral: a router chooses some of several feed-forward parts for each position."""

    models: ClassVar[Mapping[str, str]] = {"lm": "MixtralForCausalLM", "none": "MixtralModel"}

    experts: int = 4
    #: experts for each position
    chosen: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least_one(self, "chosen")
        if self.experts < max(2, self.chosen):
            raise UsageError(f"experts is {self.experts}", remedy="at least 2, and not less than chosen")

    def config(self) -> PreTrainedConfig:
        """See :meth:`Family.config`."""
        from transformers import MixtralConfig

        return MixtralConfig(num_local_experts=self.experts, num_experts_per_tok=self.chosen, **self.fields())
