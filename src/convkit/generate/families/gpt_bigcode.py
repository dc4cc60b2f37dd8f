"""GPTBigCode: StarCoder and its like."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from convkit.generate.families.family import Family

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


@dataclass(frozen=True, kw_only=True)
class GptBigcode(Family):
    """A GPT-2 whose heads share one key and one value, or each have their own."""

    models: ClassVar[Mapping[str, str]] = {"lm": "GPTBigCodeForCausalLM", "none": "GPTBigCodeModel"}

    head: Literal["lm", "none"] = "lm"
    tied: bool = True
    multi_query: bool = True
    activation: Literal["gelu_pytorch_tanh", "gelu", "relu"] = "gelu_pytorch_tanh"

    def config(self) -> PreTrainedConfig:
        """See :meth:`Family.config`."""
        from transformers import GPTBigCodeConfig

        return GPTBigCodeConfig(
            n_embd=self.hidden,
            n_layer=self.layers,
            n_head=self.heads,
            n_inner=self.intermediate,
            vocab_size=self.vocab,
            n_positions=self.positions,
            layer_norm_epsilon=6e-5,
            activation_function=self.activation,
            multi_query=self.multi_query,
            tie_word_embeddings=self.tied,
            bos_token_id=self.vocab - 1,
            eos_token_id=self.vocab - 1,
        )
