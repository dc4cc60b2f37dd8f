"""Gemma 2: norms around both parts of a layer, windows on every other layer, soft caps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from convkit.generate.families.llama_like import LlamaLike

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


@dataclass(frozen=True, kw_only=True)
class Gemma2(LlamaLike):
    """A gemma2."""

    models: ClassVar[Mapping[str, str]] = {"lm": "Gemma2ForCausalLM", "none": "Gemma2Model"}

    activation: Literal["gelu", "gelu_pytorch_tanh", "silu", "relu"] = "gelu"  # type: ignore[assignment]
    tied: bool = True
    attention_bias: bool = False
    #: each position of every other layer sees a window of those before it
    window: int = 24
    window_first: bool = True
    #: of an attention head
    head_dim: int = 14
    #: the scores are divided by the root of it; default: the size of a head
    query_scalar: int = 18
    #: 0: none
    score_cap: float = 3.0
    logit_cap: float = 2.0

    def config(self) -> PreTrainedConfig:
        """See :meth:`Family.config`."""
        from transformers import Gemma2Config

        fields = self.fields()
        fields["hidden_activation"] = fields.pop("hidden_act")
        kinds = ["sliding_attention", "full_attention"][:: 1 if self.window_first else -1]
        return Gemma2Config(
            attention_bias=self.attention_bias,
            head_dim=self.head_dim,
            sliding_window=self.window,
            layer_types=[kinds[layer % 2] for layer in range(self.layers)],
            query_pre_attn_scalar=self.query_scalar,
            attn_logit_softcapping=self.score_cap or None,
            final_logit_softcapping=self.logit_cap or None,
            **fields,
        )
