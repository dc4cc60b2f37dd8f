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
from convkit.oracles.cerebras.model import NEIGHBOUR, CerebrasOracle, activation, find_prefix
from convkit.oracles.oracle import Facts, State, Trace

if TYPE_CHECKING:
    from torch import Tensor

_LAYER = "transformer_decoder.layers.{i}."
#: what ``moe`` may say: the rest changes which experts a token chooses, or is not recorded
_EXPERTS_FIELDS = {"num_experts", "top_k", "moe_implementation", "load_balancing_loss_coef"}
#: the longest window that an input of the usual length exceeds
_SHORT_WINDOW = 128

#: whether the first layer has a window -> the pattern in which it's the other way round
_OTHER_PATTERN = {True: "full_attention_first", False: "sliding_window_first"}


class CerebrasDecoder(CerebrasOracle):
    """A pre-norm decoder: any positions, grouped keys, windows, plain or gated FFN or experts, sandwich norms, muP."""

    layout = "cerebras/gpt2"
    order: ClassVar[Literal["pre", "parallel"]] = "pre"
    defaults: ClassVar[dict[str, Any]] = {
        "attention_module": "aiayn_attention",
        "attention_type": "scaled_dot_product",
        "filter_size": 3072,
        "hidden_size": 768,
        "layer_norm_epsilon": 1e-5,
        "max_position_embeddings": 1024,
        "nonlinearity": "gelu",
        "norm_type": "layernorm",
        "num_heads": 12,
        "num_hidden_layers": 12,
        "position_embedding_type": "learned",
        "share_embedding_weights": True,
        "use_bias_in_output": False,
        "use_ffn_bias": True,
        "use_ffn_bias_in_attention": True,
        "use_projection_bias_in_attention": True,
        "vocab_size": 50257,
    }
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
    layer_modules: ClassVar[dict[str, str]] = {
        "norm_attention": f"{_LAYER}norm1",
        "q": f"{_LAYER}self_attn.proj_q_dense_layer",
        "k": f"{_LAYER}self_attn.proj_k_dense_layer",
        "v": f"{_LAYER}self_attn.proj_v_dense_layer",
        "o": f"{_LAYER}self_attn.proj_output_dense_layer",
        "norm_attention_post": f"{_LAYER}norm1_post",
        "norm_ffn": f"{_LAYER}norm3",
        "gate": f"{_LAYER}ffn.ffn.0.linear_layer_for_glu",
        "up": f"{_LAYER}ffn.ffn.0.linear_layer",
        "down": f"{_LAYER}ffn.ffn.1.linear_layer",
        "norm_ffn_post": f"{_LAYER}norm3_post",
        "router": f"{_LAYER}ffn.gate",
    }

    def __init__(self, config: Mapping[str, Any], tensors: Mapping[str, Tensor], path: Path | None = None) -> None:
        super().__init__(config, tensors, path)
        get, value = self.config.get, self.value
        self.hidden, heads = value("hidden_size"), value("num_heads")
        self.head_dim = (get("attention_inner_dim") or self.hidden) // heads
        self.nonlinearity = str(value("nonlinearity"))
        self.gated = self.nonlinearity.endswith("glu")
        self.alibi = value("position_embedding_type") == "alibi"
        self.window = get("attention_sliding_window_length") or 0
        self.experts, self.chosen = self._experts()
        grouped = value("attention_module") == "multiquery_attention"
        turned = value("position_embedding_type") == "rotary"
        rotary_dim = get("rotary_dim") or int(self.hidden // heads * 0.25) if turned else 0
        self.facts = Facts(
            layers=value("num_hidden_layers"),
            heads=heads,
            kv_heads=(get("extra_attention_params") or {}).get("num_kv_groups", 1) if grouped else heads,
            vocab_size=value("vocab_size"),
            positions=value("max_position_embeddings"),
            rotary="interleaved" if rotary_dim else "",
            rotary_dim=rotary_dim,
            switches_at=rotary.switches_at(self.config) if rotary_dim else 0,
            tied=bool(value("share_embedding_weights")),
        )
        if self.gated and self.order == "parallel":
            raise self.uncovered("nonlinearity", self.nonlinearity)
        if self.alibi and get("pos_scaling_factor", 1.0) != 1.0:
            raise self.uncovered("pos_scaling_factor", get("pos_scaling_factor"))
        feed = FeedForward(activation(self.nonlinearity), self.gated)
        self.block = Block(
            self.order,
            Norm(self.eps, rms=value("norm_type") == "rmsnorm"),
            self.attention(self.head_dim, cap=get("attention_logit_softcapping")),
            Experts(feed, self.chosen) if self.experts else feed,
        )
        self.scale = self.logit_scale() * (1.0 if get("mup_base_hidden_size") else get("output_logits_scale") or 1.0)
        self._claim()

    def _experts(self) -> tuple[int, int]:
        """The number of experts, and how many a token chooses; 0 for a dense model."""
        said = self.config.get("moe") or {}
        count = said.get("num_experts") or 0
        strange = {name for name, value in said.items() if value} - _EXPERTS_FIELDS
        if count > 1 and (strange or said.get("moe_implementation") != "optimized" or not self.gated):
            raise self.uncovered("moe", said, "covered: gated experts of the optimized implementation")
        return (count, said.get("top_k", 1)) if count > 1 else (0, 0)

    def _claim(self) -> None:
        self.wrapper, _ = find_prefix(self.tensors, [""])
        hidden, shift = self.hidden, self.value("norm_type") == "layernorm"
        embeddings = f"{self.wrapper}embedding_layer"
        learned = self.value("position_embedding_type") == "learned"
        self.claim_embeddings(embeddings, hidden, self.facts.positions if learned else 0)
        if self.alibi:
            self.claim("slopes", f"{embeddings}.position_embed_helper.slopes", (self.facts.heads, 1))
        if self.config.get("embedding_layer_norm"):
            self.claim_norm("norm_embedding", f"{self.wrapper}embedding_ln_f", hidden)
        for i in range(self.facts.layers):
            self._claim_layer(i, shift)
        norm = f"{self.wrapper}transformer_decoder.norm"
        self.claim_norm("norm_final", norm, hidden, shift)
        for end in ("weight", "bias") if shift else ("weight",):
            self.claim_twin(f"{norm}.{end}", f"{self.wrapper}ln_f.{end}")
        self._claim_head()
        self.refuse_strangers()

    def _claim_layer(self, i: int, shift: bool) -> None:
        module = {role: self.wrapper + name.format(i=i) for role, name in self.layer_modules.items()}
        layer, hidden, filters = f"layers.{i}", self.hidden, self.value("filter_size")
        queries, keys = self.facts.heads * self.head_dim, self.facts.kv_heads * self.head_dim
        qkv, out, ffn = self.biases()
        for role, rows in (("q", queries), ("k", keys), ("v", keys)):
            self.claim_linear(f"{layer}.{role}", module[role], rows, hidden, qkv)
        self.claim_linear(f"{layer}.o", module["o"], hidden, queries, out)
        sizes = {"up": (filters, hidden), "down": (hidden, filters)} | (
            {"gate": (filters, hidden)} if self.gated else {}
        )
        if self.experts:
            self.claim_linear(f"{layer}.router", module["router"], self.experts, hidden, False)
            for role, (rows, columns) in sizes.items():
                key = module[role].replace(".ffn.ffn.", ".ffn.experts.fused_ffns.") + ".expert_weights"
                self.claim_experts(f"{layer}.experts", role, key, (rows, self.experts, columns))
        else:
            for role, (rows, columns) in sizes.items():
                self.claim_linear(f"{layer}.{role}", module[role], rows, columns, ffn)
        for role in self.norms():
            self.claim_norm(f"{layer}.{role}", module[role], hidden, shift)

    def norms(self) -> tuple[str, ...]:
        """The roles of a layer's norms."""
        post = ("norm_attention_post", "norm_ffn_post") if self.config.get("norm_first_sandwich") else ()
        return ("norm_attention", "norm_ffn", *post)

    def _claim_head(self) -> None:
        head = f"{self.wrapper}lm_head"
        if self.facts.tied:
            self.roles["head.lm.weight"] = self.roles["embedding.weight"]
            self.claim_twin(self.roles["embedding.weight"].key, f"{head}.weight")
        elif f"{head}.weight" in self.tensors:
            self.claim("head.lm.weight", f"{head}.weight", (self.facts.vocab_size, self.hidden))
        else:
            self.notes.append(f"{head}.weight is missing: a model without a head, run for its hidden states")
            return
        if self.value("use_bias_in_output"):
            self.claim("head.lm.bias", f"{head}.bias", (self.facts.vocab_size,))

    def begin(self, inputs: Mapping[str, Tensor]) -> State:
        """See :meth:`Oracle.begin`; the model attends causally and takes only ``input_ids``."""
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
        return x * (self.config.get("embeddings_scale") or 1.0)

    def layer(self, i: int, x: Tensor, given: Mapping[str, Any], trace: Trace) -> Tensor:
        """See :meth:`Stack.layer`."""
        bias = given["window" if self._windowed(i) else "all"]
        if self.alibi:
            bias = bias + alibi(self.weights["slopes"], x.shape[1])
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
            trace.outputs["lm"] = capped(logits, self.config.get("final_logit_softcapping"))
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
            if get("pos_scaling_factor", 1.0) != 1.0 or get("pos_scaling_extra_args"):
                wrong["rotary scaling left out"] = {"pos_scaling_type": "linear", "pos_scaling_factor": 1.0}
        elif self.facts.heads % 2 == 0 and self.facts.kv_heads == self.facts.heads and not self.alibi:
            wrong["wrong head count"] = {"num_heads": self.facts.heads // 2}
        if self.facts.rotary_dim % 4 == 0 and 0 < self.facts.rotary_dim < self.head_dim:
            wrong["half of the rotary dims"] = {"rotary_dim": self.facts.rotary_dim // 2}
        wrong |= self._options_left_out()
        return {name: {**self.config, **change} for name, change in wrong.items()}

    def _options_left_out(self) -> dict[str, dict[str, Any]]:
        """Changes of the yaml, by the fault that they are, for the options that this model has."""
        get = self.config.get
        faults: dict[str, tuple[Any, dict[str, Any]]] = {
            "one expert a token": (self.chosen > 1, {"moe": {**(get("moe") or {}), "top_k": 1}}),
            "softcap of the scores left out": (
                get("attention_logit_softcapping"),
                {"attention_logit_softcapping": None},
            ),
            "softcap of the logits left out": (get("final_logit_softcapping"), {"final_logit_softcapping": None}),
            "scale of the embeddings left out": ((get("embeddings_scale") or 1.0) != 1.0, {"embeddings_scale": 1.0}),
            "norm of the embeddings left out": (get("embedding_layer_norm"), {"embedding_layer_norm": False}),
            "one norm for both parts of a layer": (get("use_untied_layer_norm"), {"use_untied_layer_norm": False}),
            "window on the wrong layers": (
                self.window and get("sliding_window_every_other_decoder_layer"),
                {"sliding_window_every_other_decoder_layer_pattern": _OTHER_PATTERN[self._windowed(0)]},
            ),
            "a window of one position less": (
                0 < self.window <= _SHORT_WINDOW,
                {"attention_sliding_window_length": self.window - 1},
            ),
        }
        return {name: change for name, (has, change) in faults.items() if has}

    def rebased(self, factor: float) -> dict[str, Any] | None:
        """See :meth:`Oracle.rebased`."""
        theta = factor * float(self.config.get("rope_theta", 10000))
        return {**self.config, "rope_theta": theta} if self.facts.base_matters else None

    def untied(self) -> tuple[dict[str, Any], Mapping[str, Tensor]]:
        """See :meth:`Oracle.untied`."""
        return {**self.config, "share_embedding_weights": False}, self.with_head(f"{self.wrapper}lm_head.weight")

    @classmethod
    def reconcile(cls, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> tuple[dict[str, Any], list[str]]:
        """See :meth:`CerebrasOracle.reconcile`; the head has a bias flag too."""
        corrected, notes = super().reconcile(config, tensors)
        found = any(key.endswith("lm_head.bias") for key in tensors)
        if bool(config.get("use_bias_in_output", False)) != found:
            corrected["use_bias_in_output"] = found
            notes.append(f"use_bias_in_output: the yaml says {not found}, the tensors say {found}")
        return corrected, notes


class CerebrasParallelDecoder(CerebrasDecoder):
    """The GPT-J class: attention and FFN side by side, behind one norm or two, and rotary positions."""

    layout = "cerebras/gptj"
    order = "parallel"
    defaults: ClassVar[dict[str, Any]] = {
        **CerebrasDecoder.defaults,
        "position_embedding_type": "rotary",
        "use_ffn_bias": False,
    }
    not_covered: ClassVar[dict[str, Any]] = {
        **CerebrasDecoder.not_covered,
        "attention_inner_dim": None,
        "attention_logit_softcapping": None,
        "attention_logits_alpha": 1.0,
        "attention_sliding_window_length": None,
        "embedding_layer_norm": False,
        "embeddings_scale": 1.0,
        "final_logit_softcapping": None,
        "moe": None,
        "mup_base_filter_size": None,
        "mup_base_hidden_size": None,
        "norm_first_sandwich": False,
        "output_logits_alpha": 1.0,
        "output_logits_scale": None,
        "scale_qk_dot_by_d": False,
    }
    covered: ClassVar[dict[str, tuple[Any, ...]]] = {
        "norm_type": ("layernorm",),
        "position_embedding_type": ("rotary",),
    }

    def norms(self) -> tuple[str, ...]:
        """See :meth:`CerebrasDecoder.norms`."""
        return ("norm_attention", "norm_ffn") if self.config.get("use_untied_layer_norm") else ("norm_attention",)
