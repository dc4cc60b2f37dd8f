"""The decoders of Cerebras: the GPT-2 class (gpt2, llama and others are this model with different yamls) and GPT-J's.

Source: Cerebras ModelZoo 2.10.0, ``models/nlp/gpt2/gpt2_model.py`` (defaults: ``GPT2LMHeadModelConfig``),
``models/nlp/gptj/gptj_model.py``, ``models/nlp/llama/model.py``, ``layers/{TransformerDecoderLayer,
GPTJDecoderLayer}.py``; and runs of its models on a CPU. Options that no recorded model has are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from convkit.oracles.blocks import rotary
from convkit.oracles.blocks.attention import alibi, capped, causal
from convkit.oracles.blocks.block import Block
from convkit.oracles.blocks.feed_forward import Experts, FeedForward
from convkit.oracles.blocks.norms import Norm
from convkit.oracles.cerebras.decoder_tensors import DecoderTensors
from convkit.oracles.cerebras.model import NEIGHBOUR, activation
from convkit.oracles.oracle import A_SHORTER_WINDOW, SHORT_WINDOW, Facts, State, Trace

if TYPE_CHECKING:
    from torch import Tensor

#: what ``moe`` may say: the rest changes which experts a token chooses, or is not recorded
_EXPERTS_FIELDS = {"num_experts", "top_k", "moe_implementation", "load_balancing_loss_coef"}
#: whether the first layer has a window -> the pattern in which it's the other way round
_OTHER_PATTERN = {True: "full_attention_first", False: "sliding_window_first"}


class CerebrasDecoder(DecoderTensors):
    """A pre-norm decoder: any positions, grouped keys, windows, plain or gated FFN or experts, sandwich norms, muP."""

    layout = "cerebras/gpt2"
    order: ClassVar[Literal["pre", "parallel"]] = "pre"
    not_covered: ClassVar[dict[str, Any]] = {
        "alibi_trainable_slopes": False,
        "attention_chunk_size": None,
        "attention_qk_norm_layer": None,
        "attention_sink_tokens": None,
        "attention_vertical_column_spacing": None,
        "attn_memory_chunk_size": None,
        "constant_pos_embedding": None,
        "cross_attention_layers": [],
        "extra_ffn_params": {},
        "fixed_sparse_attention": None,
        "memory_tokens": None,
        "num_extra_input_vocab_tokens": 0,
        "num_memory_tokens_per_chunk": None,
        "position_embedding_offset": 0,
        "rel_distance_mode": "default",
        "scale_qk_dot_by_layer_idx": False,
        "use_sink_token": False,
    }
    covered: ClassVar[dict[str, tuple[Any, ...]]] = {
        "norm_type": ("layernorm", "biasless-layernorm", "rmsnorm"),
        "position_embedding_type": ("learned", "rotary", "alibi", None),
    }

    def __init__(self, config: Mapping[str, Any], tensors: Mapping[str, Tensor], path: Path | None = None) -> None:
        super().__init__(config, tensors, path)
        get, value, number = self.config.get, self.value, self.number
        for name, default in (("rope_theta", 10000), ("pos_scaling_factor", 1)):
            self.config[name] = number(name, default)
        self.hidden, heads = value("hidden_size"), value("num_heads")
        self.head_dim = (number("attention_inner_dim") or self.hidden) // heads
        self.nonlinearity = str(value("nonlinearity"))
        self.gated = self.nonlinearity.endswith("glu")
        self.alibi = value("position_embedding_type") == "alibi"
        self.window = number("attention_sliding_window_length") or 0
        self.experts, self.chosen = self._experts()
        turned = value("position_embedding_type") == "rotary"
        rotary_dim = number("rotary_dim") or int(self.hidden // heads * 0.25) if turned else 0
        self.facts = Facts(
            layers=value("num_hidden_layers"),
            heads=heads,
            kv_heads=self._kv_heads(heads),
            vocab_size=value("vocab_size"),
            positions=value("max_position_embeddings"),
            rotary="interleaved" if rotary_dim else "",
            rotary_dim=rotary_dim,
            switches_at=rotary.switches_at(self.config) if rotary_dim else 0,
            tied=value("share_embedding_weights"),
        )
        if self.gated and self.order == "parallel":
            raise self.uncovered("nonlinearity", self.nonlinearity)
        if get("embedding_layer_norm") and value("norm_type") != "layernorm":
            raise self.uncovered("embedding_layer_norm", True)
        feed = FeedForward(activation(self.nonlinearity), self.gated)
        self.block = Block(
            self.order,
            Norm(self.eps, rms=value("norm_type") == "rmsnorm"),
            self.attention(self.head_dim, cap=number("attention_logit_softcapping")),
            Experts(feed, self.chosen) if self.experts else feed,
        )
        self.scale = self.logit_scale() * (1.0 if get("mup_base_hidden_size") else number("output_logits_scale") or 1.0)
        self.claim_all()

    def _kv_heads(self, heads: int) -> int:
        if self.value("attention_module") != "multiquery_attention":
            return heads
        groups = (self.config.get("extra_attention_params") or {}).get("num_kv_groups", 1)
        if not isinstance(groups, int) or groups < 1 or heads % groups:
            raise self.unreadable("extra_attention_params.num_kv_groups", groups, f"a divisor of {heads} heads")
        return groups

    def _experts(self) -> tuple[int, int]:
        """The number of experts, and how many a token chooses; 0 for a dense model."""
        said = self.config.get("moe") or {}
        count, top = said.get("num_experts") or 0, said.get("top_k", 1)
        strange = {name for name, value in said.items() if value} - _EXPERTS_FIELDS
        if count in (0, 1):
            return 0, 0
        numbers = isinstance(count, int) and isinstance(top, int) and 1 <= top <= count
        if strange or said.get("moe_implementation") != "optimized" or not self.gated or not numbers:
            raise self.uncovered("moe", said, "covered: gated experts of the optimized implementation")
        return count, top

    def start(self, inputs: Mapping[str, Tensor]) -> State:
        """See :meth:`Oracle.start`; the model attends causally."""
        ids = inputs["input_ids"]
        length = ids.shape[1]
        given = {"ids": ids, "all": causal(length), "window": causal(length, self.window or None)}
        if self.facts.rotary:
            sin, cos = rotary.tables(self.config, self.facts.rotary_dim, length)
            given |= {"sin": sin, "cos": cos}
        return State({}, given)

    def before(self, given: Mapping[str, Any]) -> Tensor:
        """See :meth:`Stack.before`."""
        ids = given["ids"]
        x = self.weights["embedding.weight"][ids]
        if "positions.weight" in self.weights:
            x = x + self.weights["positions.weight"][: ids.shape[1]]
        if "norm_embedding.weight" in self.weights:
            x = Norm(self.eps)(self.weights, "norm_embedding", x)
        return x * (self.number("embeddings_scale") or 1.0)

    def layer(self, i: int, x: Tensor, given: Mapping[str, Any], trace: Trace) -> Tensor:
        """See :meth:`Stack.layer`."""
        bias = given["window" if self._windowed(i) else "all"]
        if self.alibi:
            bias = bias + alibi(self.weights["slopes"] / self.config["pos_scaling_factor"], x.shape[1])
        turn = partial(rotary.rotate, sin=given["sin"], cos=given["cos"]) if self.facts.rotary else None
        return self.block(self.weights.within(f"layers.{i}."), x, bias, turn, partial(trace.point, i))

    def _windowed(self, i: int) -> bool:
        if not self.config.get("sliding_window_every_other_decoder_layer"):
            return True
        pattern = self.config.get("sliding_window_every_other_decoder_layer_pattern")
        return (i % 2 == 0) == (pattern == "sliding_window_first")

    def after(self, x: Tensor, given: Mapping[str, Any], trace: Trace) -> Tensor:
        """See :meth:`Stack.after`."""
        x = self.block.norm(self.weights, "norm_final", x)
        trace.state("final", x)
        if "head.lm.weight" in self.weights:
            logits = self.weights.linear("head.lm", x) * self.scale
            trace.outputs["lm"] = capped(logits, self.number("final_logit_softcapping"))
        return x

    def wrong_configs(self) -> dict[str, dict[str, Any]]:
        """See :meth:`Oracle.wrong_configs`."""
        get = self.config.get
        wrong: dict[str, dict[str, Any]] = {
            "wrong activation": {"nonlinearity": NEIGHBOUR.get(self.nonlinearity, "relu")},
            "wrong norm epsilon": {"layer_norm_epsilon": max(1e-4, 100 * self.eps)},
        }
        if self.facts.rotary:
            if rebased := self.rebased(1.1):
                wrong["wrong rotary base"] = rebased
            if get("pos_scaling_factor") != 1 or get("pos_scaling_extra_args"):
                wrong["rotary scaling left out"] = {"pos_scaling_type": "linear", "pos_scaling_factor": 1.0}
            if self.facts.rotary_dim < self.head_dim and (other := self.facts.other_rotary_dim(self.head_dim)):
                wrong["wrong number of rotary dims"] = {"rotary_dim": other}
        elif self.facts.heads % 2 == 0 and self.facts.kv_heads == self.facts.heads and not self.alibi:
            wrong["wrong head count"] = {"num_heads": self.facts.heads // 2}
        wrong |= self._options_left_out()
        return {name: {**self.config, **change} for name, change in wrong.items()}

    def _options_left_out(self) -> dict[str, dict[str, Any]]:
        """Changes of the yaml, by the fault that they are, for the options that this model has."""
        get, number = self.config.get, self.number
        faults: dict[str, tuple[Any, dict[str, Any]]] = {
            "one expert a token": (self.chosen > 1, {"moe": {**(get("moe") or {}), "top_k": 1}}),
            "softcap of the scores left out": (
                number("attention_logit_softcapping"),
                {"attention_logit_softcapping": None},
            ),
            "softcap of the logits left out": (get("final_logit_softcapping"), {"final_logit_softcapping": None}),
            "scale of the embeddings left out": ((number("embeddings_scale") or 1.0) != 1.0, {"embeddings_scale": 1.0}),
            "scale of the logits left out": (number("output_logits_scale"), {"output_logits_scale": None}),
            "scores divided by the root": (
                get("scale_qk_dot_by_d") and self.value("attention_type") == "scaled_dot_product",
                {"scale_qk_dot_by_d": False},
            ),
            "scale of distances left out": (
                self.alibi and get("pos_scaling_factor") != 1,
                {"pos_scaling_factor": 1.0},
            ),
            "norm of the embeddings left out": (get("embedding_layer_norm"), {"embedding_layer_norm": False}),
            "one norm for both parts of a layer": (get("use_untied_layer_norm"), {"use_untied_layer_norm": False}),
            "window on the wrong layers": (
                self.window and get("sliding_window_every_other_decoder_layer"),
                {"sliding_window_every_other_decoder_layer_pattern": _OTHER_PATTERN[self._windowed(0)]},
            ),
            A_SHORTER_WINDOW: (
                0 < self.window <= min(SHORT_WINDOW, self.facts.positions - 1),
                {"attention_sliding_window_length": self.window - 1},
            ),
        }
        return {name: change for name, (has, change) in faults.items() if has} | self.mup_faults()

    def shown_in(self, fault: str) -> frozenset[str]:
        """See :meth:`Oracle.shown_in`."""
        if fault == A_SHORTER_WINDOW:
            return frozenset(stage for i, stage in enumerate(self.layer_stages) if self._windowed(i))
        return super().shown_in(fault)

    def rebased(self, factor: float) -> dict[str, Any] | None:
        """See :meth:`Oracle.rebased`."""
        theta = factor * self.config["rope_theta"]
        return {**self.config, "rope_theta": theta} if self.facts.base_matters else None


class CerebrasParallelDecoder(CerebrasDecoder):
    """The GPT-J class: attention and FFN side by side, behind one norm or two, and rotary positions."""

    layout = "cerebras/gptj"
    order = "parallel"
    by_d = False
    defaults: ClassVar[dict[str, Any]] = {
        **DecoderTensors.defaults,
        "position_embedding_type": "rotary",
        "use_ffn_bias": False,
    }
    not_covered: ClassVar[dict[str, Any]] = {
        **CerebrasDecoder.not_covered,
        "attention_inner_dim": None,
        "attention_logit_softcapping": None,
        "attention_sliding_window_length": None,
        "embedding_layer_norm": False,
        "final_logit_softcapping": None,
        "moe": None,
        "norm_first_sandwich": False,
        "output_logits_scale": None,
    }
    covered: ClassVar[dict[str, tuple[Any, ...]]] = {
        "norm_type": ("layernorm",),
        "position_embedding_type": ("rotary",),
    }

    def norms(self) -> tuple[str, ...]:
        """See :meth:`CerebrasDecoder.norms`."""
        return ("norm_attention", "norm_ffn") if self.config.get("use_untied_layer_norm") else ("norm_attention",)
