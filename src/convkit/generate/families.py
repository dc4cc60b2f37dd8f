"""The families that can be generated: a dataclass each, whose fields are the options.

Sizes are awkward on purpose, so that a wrong reshape doesn't fit by accident. So are the constants that a converter
could forget without notice if they were the other framework's defaults (norm epsilon, rotary base).
``intermediate`` and ``vocab`` are odd sizes, ``positions`` leaves room for a probe of 256.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from convkit.errors import UsageError
from convkit.generate.old_cerebras import OldCerebras
from convkit.generate.orbax import OrbaxTraining
from convkit.generate.pax import Pax
from convkit.generate.sizes import at_least_one
from convkit.generate.t5x import T5X
from convkit.generate.training import Training

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel


#: groups of heads in a fused tensor of CodeGen's
_CODEGEN_GROUPS = 4


@dataclass(frozen=True, kw_only=True)
class Family(ABC):
    """The options of all families. A family's own option ``head`` chooses among its ``models``."""

    #: heads, and the names of the classes of transformers that have them
    models: ClassVar[Mapping[str, str]]

    #: the weights depend only on the seed and on their names
    seed: int = 0
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    #: ``torch`` is pytorch_model.bin, which has tied weights under all of their names
    format: Literal["safetensors", "torch"] = "safetensors"
    #: the largest shard, in transformers' notation: 100KB, 5GB
    shard_size: str = "50GB"

    heads: int = 6
    #: default: ten times the heads
    hidden: int = 0
    layers: int = 3
    intermediate: int = 84
    vocab: int = 211
    positions: int = 320

    def __post_init__(self) -> None:
        at_least_one(self, "heads", "layers", "intermediate", "vocab", "positions")
        if not self.hidden:
            object.__setattr__(self, "hidden", 10 * self.heads)
        if self.hidden % self.heads:
            raise UsageError(f"hidden {self.hidden} isn't a multiple of heads {self.heads}")

    @abstractmethod
    def config(self) -> PreTrainedConfig:
        """The transformers configuration."""

    def architecture(self) -> type[PreTrainedModel]:
        """The transformers model class."""
        import transformers

        found: type[PreTrainedModel] = getattr(transformers, self.models[vars(self)["head"]])
        return found


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
        if self.kv_heads < 1 or self.heads % self.kv_heads:
            raise UsageError(f"heads {self.heads} isn't a multiple of kv_heads {self.kv_heads}")
        if self.hidden // self.heads % 2:
            raise UsageError(f"hidden / heads is {self.hidden // self.heads}", remedy="rotary positions need it even")

    def fields(self) -> dict[str, Any]:
        """The fields of the configuration that all such families have."""
        return {
            "hidden_size": self.hidden,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "intermediate_size": self.intermediate,
            "vocab_size": self.vocab,
            "max_position_embeddings": self.positions,
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


@dataclass(frozen=True, kw_only=True)
class Gpt2(Family):
    """A GPT-2: fused queries, keys and values, learned positions."""

    models: ClassVar[Mapping[str, str]] = {"lm": "GPT2LMHeadModel", "none": "GPT2Model"}

    head: Literal["lm", "none"] = "lm"
    tied: bool = True
    activation: Literal["gelu_new", "gelu", "relu"] = "gelu_new"

    def config(self) -> PreTrainedConfig:
        """See :meth:`Family.config`."""
        from transformers import GPT2Config

        return GPT2Config(
            n_embd=self.hidden,
            n_layer=self.layers,
            n_head=self.heads,
            n_inner=self.intermediate,
            vocab_size=self.vocab,
            n_positions=self.positions,
            layer_norm_epsilon=6e-5,
            activation_function=self.activation,
            tie_word_embeddings=self.tied,
            bos_token_id=self.vocab - 1,
            eos_token_id=self.vocab - 1,
        )


@dataclass(frozen=True, kw_only=True)
class Gptj(Family):
    """A GPT-J: attention and feed-forward side by side behind one norm, part of each head rotated."""

    models: ClassVar[Mapping[str, str]] = {"lm": "GPTJForCausalLM", "none": "GPTJModel"}

    head: Literal["lm", "none"] = "lm"
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

        return GPTJConfig(**self._fields())

    def _fields(self) -> dict[str, Any]:
        return {
            "n_embd": self.hidden,
            "n_layer": self.layers,
            "n_head": self.heads,
            "n_inner": self.intermediate,
            "vocab_size": self.vocab,
            "n_positions": self.positions,
            "rotary_dim": self.rotary_dim,
            "layer_norm_epsilon": 6e-5,
            "activation_function": self.activation,
            "tie_word_embeddings": self.tied,
            "bos_token_id": self.vocab - 1,
            "eos_token_id": self.vocab - 1,
        }


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

        return CodeGenConfig(n_ctx=self.positions, **self._fields())


@dataclass(frozen=True, kw_only=True)
class Bert(Family):
    """A BERT with one of its heads."""

    models: ClassVar[Mapping[str, str]] = {
        "pretraining": "BertForPreTraining",
        "sequence-classification": "BertForSequenceClassification",
        "token-classification": "BertForTokenClassification",
        "question-answering": "BertForQuestionAnswering",
        "none": "BertModel",
    }

    head: Literal["pretraining", "sequence-classification", "token-classification", "question-answering", "none"] = (
        "pretraining"
    )
    #: whether the MLM output is tied to the word embedding
    tied: bool = True
    #: number of classes of the two classification heads
    labels: int = 5
    activation: Literal["gelu", "gelu_new", "relu"] = "gelu"

    def config(self) -> PreTrainedConfig:
        """See :meth:`Family.config`."""
        from transformers import BertConfig

        config = BertConfig(
            hidden_size=self.hidden,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            intermediate_size=self.intermediate,
            vocab_size=self.vocab,
            max_position_embeddings=self.positions,
            layer_norm_eps=5e-5,
            hidden_act=self.activation,
            tie_word_embeddings=self.tied,
        )
        if self.head in ("sequence-classification", "token-classification"):
            config.num_labels = self.labels
        return config


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
            hidden_size=self.hidden,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            intermediate_size=self.intermediate,
            vocab_size=self.vocab,
            max_position_embeddings=self.positions,
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


FAMILIES: dict[str, type[Family | OldCerebras | Training | OrbaxTraining]] = {
    "llama": Llama,
    "mistral": Mistral,
    "mixtral": Mixtral,
    "gpt2": Gpt2,
    "bert": Bert,
    "gptj": Gptj,
    "codegen": Codegen,
    "gpt_neox": GptNeox,
    "cerebras-old": OldCerebras,
    "t5x": T5X,
    "pax": Pax,
    "orbax-v0": OrbaxTraining,
}
