"""The tensors of a Cerebras decoder: which the yaml asks for, and where they lie in a checkpoint.

Source: Cerebras ModelZoo 2.10.0, ``models/nlp/gpt2/gpt2_model.py`` (defaults: ``GPT2LMHeadModelConfig``),
``layers/TransformerDecoderLayer.py``, and the keys of its checkpoints.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from convkit.oracles.cerebras.model import CerebrasOracle, find_prefix
from convkit.oracles.stacks import Stack

if TYPE_CHECKING:
    from torch import Tensor

_LAYER = "transformer_decoder.layers.{i}."


class DecoderTensors(CerebrasOracle, Stack):
    """The roles of a decoder's tensors; a subclass knows its sizes and runs it."""

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

    #: size of the hidden states, and of a head
    hidden: int
    head_dim: int
    #: whether the FFN is gated; the number of its experts, or 0; whether positions are slopes of distance
    gated: bool
    experts: int
    alibi: bool

    def claim_all(self) -> None:
        """Give a role to every tensor of the model.

        Raises:
            ConvkitError: one is missing, or has another shape than the yaml says.
        """
        self.wrapper, _ = find_prefix(self.tensors, [""], wrappers=self.wrappers)
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
        sizes = {"up": (filters, hidden), "down": (hidden, filters)}
        if self.gated:
            sizes["gate"] = filters, hidden
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

    @classmethod
    def reconcile(cls, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> tuple[dict[str, Any], list[str]]:
        """See :meth:`CerebrasOracle.reconcile`; the head has a bias flag too, and stacked experts show in the keys."""
        corrected, notes = super().reconcile(config, tensors)
        found = any(key.endswith("lm_head.bias") for key in tensors)
        if bool(config.get("use_bias_in_output", False)) != found:
            corrected["use_bias_in_output"] = found
            notes.append(f"use_bias_in_output: the yaml says {not found}, the tensors say {found}")
        experts = config.get("moe")
        if isinstance(experts, dict) and "moe_implementation" not in experts and any(map(_is_stacked, tensors)):
            corrected["moe"] = {**experts, "moe_implementation": "optimized"}
            notes.append("moe.moe_implementation: the yaml doesn't say it, the tensors say optimized")
        return corrected, notes


def _is_stacked(key: str) -> bool:
    """Whether a key is of experts in one tensor, as only the optimized implementation has them."""
    return ".experts.fused_ffns." in key
