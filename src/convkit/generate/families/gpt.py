"""Decoders with the fields of GPT-2."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from convkit.errors import UsageError
from convkit.generate.families.family import Family

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

#: groups of heads in a fused tensor of CodeGen's
_CODEGEN_GROUPS = 4


@dataclass(frozen=True, kw_only=True)
class GptLike(Family):
    """The options and fields that all of them have."""

    head: Literal["lm", "none"] = "lm"
    tied: bool = True
    activation: str = "gelu_new"

    def fields(self) -> dict[str, Any]:
        """The fields of the configuration."""
        return {
            "n_embd": self.hidden,
            "n_layer": self.layers,
            "n_head": self.heads,
            "n_inner": self.intermediate,
            "vocab_size": self.vocab,
            "n_positions": self.positions,
            "layer_norm_epsilon": 6e-5,
            "activation_function": self.activation,
            "tie_word_embeddings": self.tied,
            "bos_token_id": self.vocab - 1,
            "eos_token_id": self.vocab - 1,
        }


@dataclass(frozen=True, kw_only=True)
class Gpt2(GptLike):
    """A GPT-2: fused queries, keys and values, learned positions."""

    models: ClassVar[Mapping[str, str]] = {"lm": "GPT2LMHeadModel", "none": "GPT2Model"}

    activation: Literal["gelu_new", "gelu", "relu"] = "gelu_new"

    def config(self) -> PreTrainedConfig:
        """See :meth:`Family.config`."""
        from transformers import GPT2Config

        return GPT2Config(**self.fields())


@dataclass(frozen=True, kw_only=True)
class GptBigcode(GptLike):
    """A GPT-2 whose heads share one key and one value, or each have their own."""

    models: ClassVar[Mapping[str, str]] = {"lm": "GPTBigCodeForCausalLM", "none": "GPTBigCodeModel"}

    multi_query: bool = True
    activation: Literal["gelu_pytorch_tanh", "gelu", "relu"] = "gelu_pytorch_tanh"

    def config(self) -> PreTrainedConfig:
        """See :meth:`Family.config`."""
        from transformers import GPTBigCodeConfig

        return GPTBigCodeConfig(multi_query=self.multi_query, **self.fields())


@dataclass(frozen=True, kw_only=True)
class Gptj(GptLike):
    """A GPT-J: attention and feed-forward side by side behind one norm, part of each head rotated."""

    models: ClassVar[Mapping[str, str]] = {"lm": "GPTJForCausalLM", "none": "GPTJModel"}

    tied: bool = False
    activation: Literal["gelu_new", "gelu", "relu"] = "gelu_new"
    #: dims of a head that are rotated
    rotary_dim: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        own = self.hidden // self.heads
        if self.rotary_dim % 2 or not 0 < self.rotary_dim <= own:
            raise UsageError(f"rotary_dim is {self.rotary_dim}", remedy=f"it is even and at most hidden / heads: {own}")

    def config(self) -> PreTrainedConfig:
        """See :meth:`Family.config`."""
        from transformers import GPTJConfig

        return GPTJConfig(**self.fields())

    def fields(self) -> dict[str, Any]:
        """See :meth:`GptLike.fields`."""
        return super().fields() | {"rotary_dim": self.rotary_dim}


@dataclass(frozen=True, kw_only=True)
class Codegen(Gptj):
    """A CodeGen: a GPT-J whose queries, values and keys are fused in four groups of heads."""

    models: ClassVar[Mapping[str, str]] = {"lm": "CodeGenForCausalLM", "none": "CodeGenModel"}

    heads: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.heads % _CODEGEN_GROUPS:
            raise UsageError(f"heads {self.heads} isn't a multiple of {_CODEGEN_GROUPS}", remedy="codegen has 4 groups")

    def config(self) -> PreTrainedConfig:
        """See :meth:`Family.config`."""
        from transformers import CodeGenConfig

        return CodeGenConfig(n_ctx=self.positions, **self.fields())
