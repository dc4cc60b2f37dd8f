"""The Cerebras GPT-2 decoder class: gpt2 and llama are this one model with different yamls.

Source: Cerebras ModelZoo 2.10.0, ``models/nlp/gpt2/gpt2_model.py`` (defaults: ``GPT2LMHeadModelConfig``),
``models/nlp/llama/model.py``, ``layers/TransformerDecoderLayer.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from convkit.errors import ConvkitError
from convkit.oracles.blocks import rotary as cerebras_rotary
from convkit.oracles.cerebras.model import NEIGHBOUR, CerebrasOracle, activation, attend, find_prefix
from convkit.oracles.oracle import Facts, Trace

if TYPE_CHECKING:
    from torch import Tensor

_NORMS = ("layernorm", "biasless-layernorm", "rmsnorm")


class CerebrasDecoder(CerebrasOracle):
    """A pre-norm decoder: learned or rotary positions, any number of key heads, plain or gated FFN."""

    layout = "cerebras/gpt2"
    not_covered: ClassVar[dict[str, Any]] = {
        "alibi_trainable_slopes": False,
        "attention_chunk_size": None,
        "attention_logit_softcapping": None,
        "attention_logits_alpha": 1.0,
        "attention_qk_norm_layer": None,
        "attention_sink_tokens": None,
        "attention_sliding_window_length": None,
        "attention_vertical_column_spacing": None,
        "constant_pos_embedding": None,
        "cross_attention_layers": [],
        "embedding_layer_norm": False,
        "embeddings_scale": 1.0,
        "extra_ffn_params": {},
        "final_logit_softcapping": None,
        "fixed_sparse_attention": None,
        "memory_tokens": None,
        "moe": None,
        "mup_base_filter_size": None,
        "mup_base_hidden_size": None,
        "norm_first_sandwich": False,
        "num_extra_input_vocab_tokens": 0,
        "output_logits_alpha": None,
        "output_logits_scale": None,
        "position_embedding_offset": 0,
        "rel_distance_mode": "default",
        "scale_qk_dot_by_d": None,
        "scale_qk_dot_by_layer_idx": False,
        "use_sink_token": False,
    }
    layer_modules: ClassVar[dict[str, str]] = {
        "norm_attention": "transformer_decoder.layers.{i}.norm1",
        "q": "transformer_decoder.layers.{i}.self_attn.proj_q_dense_layer",
        "k": "transformer_decoder.layers.{i}.self_attn.proj_k_dense_layer",
        "v": "transformer_decoder.layers.{i}.self_attn.proj_v_dense_layer",
        "o": "transformer_decoder.layers.{i}.self_attn.proj_output_dense_layer",
        "norm_ffn": "transformer_decoder.layers.{i}.norm3",
        "gate": "transformer_decoder.layers.{i}.ffn.ffn.0.linear_layer_for_glu",
        "up": "transformer_decoder.layers.{i}.ffn.ffn.0.linear_layer",
        "down": "transformer_decoder.layers.{i}.ffn.ffn.1.linear_layer",
    }

    def __init__(self, config: Mapping[str, Any], tensors: Mapping[str, Tensor], path: Path | None = None) -> None:
        super().__init__(config, tensors, path)
        get = self.config.get
        self.hidden = get("hidden_size", 768)
        self.eps = float(get("layer_norm_epsilon", 1e-5))
        self.norm_type = str(get("norm_type", "layernorm")).lower()
        self.nonlinearity = str(get("nonlinearity", "gelu")).lower()
        self.gated = self.nonlinearity.endswith("glu")
        self.act = activation(self.nonlinearity)
        self.position_type = get("position_embedding_type", "learned")
        for key, value, known in (
            ("norm_type", self.norm_type, _NORMS),
            ("position_embedding_type", self.position_type, ("learned", "rotary", None)),
        ):
            if value not in known:
                remedy = f"covered: {', '.join(map(str, known))}"
                raise ConvkitError(f"the decoder oracle doesn't cover {value!r}", path=path, key=key, remedy=remedy)
        heads = get("num_heads", 12)
        grouped = get("attention_module", "aiayn_attention") == "multiquery_attention"
        inner = get("attention_inner_dim") or self.hidden
        self.head_dim = inner // heads
        rotary_dim = get("rotary_dim") or int(self.hidden // heads * 0.25) if self.position_type == "rotary" else 0
        self.facts = Facts(
            layers=get("num_hidden_layers", 12),
            heads=heads,
            kv_heads=(get("extra_attention_params") or {}).get("num_kv_groups", 1) if grouped else heads,
            vocab_size=get("vocab_size", 50257),
            positions=get("max_position_embeddings", 1024),
            rotary="interleaved" if rotary_dim else "",
            rotary_dim=rotary_dim,
            switches_at=cerebras_rotary.switches_at(self.config) if rotary_dim else 0,
            tied=bool(get("share_embedding_weights", True)),
        )
        self.scale = self.head_dim**-0.5 if get("attention_type", "scaled_dot_product") == "scaled_dot_product" else 1.0
        self._claim()

    def _claim(self) -> None:
        facts, hidden, filter_size = self.facts, self.hidden, self.config.get("filter_size", 3072)
        self.wrapper, _ = find_prefix(self.tensors, [""])
        norm_bias = self.norm_type == "layernorm"
        queries, keys = facts.heads * self.head_dim, facts.kv_heads * self.head_dim
        qkv, out, ffn = self.biases()

        self.claim_embeddings(f"{self.wrapper}embedding_layer", hidden, self.position_type == "learned")
        for i in range(facts.layers):
            module = {role: self.wrapper + name.format(i=i) for role, name in self.layer_modules.items()}
            layer = f"layers.{i}"
            self.claim_norm(f"{layer}.norm_attention", module["norm_attention"], hidden, norm_bias)
            self.claim_linear(f"{layer}.q", module["q"], queries, hidden, qkv)
            self.claim_linear(f"{layer}.k", module["k"], keys, hidden, qkv)
            self.claim_linear(f"{layer}.v", module["v"], keys, hidden, qkv)
            self.claim_linear(f"{layer}.o", module["o"], hidden, queries, out)
            self.claim_norm(f"{layer}.norm_ffn", module["norm_ffn"], hidden, norm_bias)
            if self.gated:
                self.claim_linear(f"{layer}.gate", module["gate"], filter_size, hidden, ffn)
            self.claim_linear(f"{layer}.up", module["up"], filter_size, hidden, ffn)
            self.claim_linear(f"{layer}.down", module["down"], hidden, filter_size, ffn)

        norm = f"{self.wrapper}transformer_decoder.norm"
        self.claim_norm("norm_final", norm, hidden, norm_bias)
        for end in ("weight", "bias") if norm_bias else ("weight",):
            self.claim_twin(f"{norm}.{end}", f"{self.wrapper}ln_f.{end}")
        self._claim_head()
        self.refuse_strangers()

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
        if self.config.get("use_bias_in_output"):
            self.claim("head.lm.bias", f"{head}.bias", (self.facts.vocab_size,))

    def norm(self, role: str, x: Tensor) -> Tensor:
        """The norm that the yaml's ``norm_type`` selects."""
        import torch

        if self.norm_type == "rmsnorm":
            scale = torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps)
            return self.part(f"{role}.weight") * (x * scale)
        return self.layer_norm(role, x, self.eps)

    def run(self, inputs: Mapping[str, Tensor], detail: int | None = None) -> Trace:
        """See :meth:`Oracle.run`; the model attends causally and takes only ``input_ids``."""
        import torch

        ids = inputs["input_ids"]
        length = ids.shape[1]
        trace = Trace(detail)
        with torch.no_grad():
            x = self.part("embedding.weight")[ids]
            if self.position_type == "learned":
                x = x + self.part("positions.weight")[:length]
            turn = cerebras_rotary.tables(self.config, self.facts.rotary_dim, length) if self.facts.rotary else None
            mask = torch.full((length, length), -torch.inf).triu(1)
            trace.state("embedding", x)
            for i in range(self.facts.layers):
                x = x + self._attention(i, x, turn, mask, trace)
                x = x + self._ffn(i, x, trace)
                trace.state(f"layers.{i}", x)
            x = self.norm("norm_final", x)
            trace.state("final", x)
            if self.has("head.lm.weight"):
                trace.outputs["lm"] = self.linear("head.lm", x)
        return trace

    def _attention(self, i: int, x: Tensor, turn: tuple[Tensor, Tensor] | None, mask: Tensor, trace: Trace) -> Tensor:
        layer = f"layers.{i}"
        x = self.norm(f"{layer}.norm_attention", x)
        trace.point(i, "norm_attention", x)
        q, k, v = (self.linear(f"{layer}.{role}", x).unflatten(-1, (-1, self.head_dim)) for role in "qkv")
        trace.point(i, "v", v.flatten(2))
        if turn:
            q, k = cerebras_rotary.rotate(q, *turn), cerebras_rotary.rotate(k, *turn)
        mixed, probabilities = attend(q, k, v, self.scale, mask)
        trace.point(i, "probabilities", probabilities)
        out = self.linear(f"{layer}.o", mixed)
        trace.point(i, "attention", out)
        return out

    def _ffn(self, i: int, x: Tensor, trace: Trace) -> Tensor:
        layer = f"layers.{i}"
        x = self.norm(f"{layer}.norm_ffn", x)
        trace.point(i, "norm_ffn", x)
        up = self.linear(f"{layer}.up", x)
        if self.gated:
            gate = self.linear(f"{layer}.gate", x)
            trace.point(i, "gate", gate)
        trace.point(i, "up", up)
        out = self.linear(f"{layer}.down", up * self.act(gate) if self.gated else self.act(up))
        trace.point(i, "ffn", out)
        return out

    def wrong_configs(self) -> dict[str, dict[str, Any]]:
        """See :meth:`Oracle.wrong_configs`."""
        wrong: dict[str, dict[str, Any]] = {
            "wrong activation": {"nonlinearity": NEIGHBOUR.get(self.nonlinearity, "relu")},
            "wrong norm epsilon": {"layer_norm_epsilon": max(1e-4, 100 * self.eps)},
        }
        if self.facts.rotary:
            if rebased := self.rebased(1.1):
                wrong["wrong rotary base"] = rebased
            if self.config.get("pos_scaling_factor", 1.0) != 1.0 or self.config.get("pos_scaling_extra_args"):
                wrong["rotary scaling left out"] = {"pos_scaling_type": "linear", "pos_scaling_factor": 1.0}
        elif self.facts.heads % 2 == 0 and self.facts.kv_heads == self.facts.heads:
            wrong["wrong head count"] = {"num_heads": self.facts.heads // 2}
        return {name: {**self.config, **change} for name, change in wrong.items()}

    def rebased(self, factor: float) -> dict[str, Any] | None:
        """See :meth:`Oracle.rebased`."""
        theta = factor * float(self.config.get("rope_theta", 10000))
        return {**self.config, "rope_theta": theta} if self.facts.base_matters else None

    def untied(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """See :meth:`Oracle.untied`."""
        head = {f"{self.wrapper}lm_head.weight": self.part("embedding.weight")}
        return {**self.config, "share_embedding_weights": False}, {**self.tensors, **head}

    @classmethod
    def reconcile(cls, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> tuple[dict[str, Any], list[str]]:
        """See :meth:`CerebrasOracle.reconcile`; the head has a bias flag too."""
        corrected, notes = super().reconcile(config, tensors)
        found = any(key.endswith("lm_head.bias") for key in tensors)
        if bool(config.get("use_bias_in_output", False)) != found:
            corrected["use_bias_in_output"] = found
            notes.append(f"use_bias_in_output: the yaml says {not found}, the tensors say {found}")
        return corrected, notes
