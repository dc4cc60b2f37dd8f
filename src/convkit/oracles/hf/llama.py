"""Llama in ``transformers``: half-split rotary, RMS norm, gated FFN."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from convkit.oracles.hf.model import HfOracle, first, second
from convkit.oracles.oracle import Facts

if TYPE_CHECKING:
    from torch import Tensor


class HfLlama(HfOracle):
    """``LlamaForCausalLM``, or ``LlamaModel`` for a checkpoint of the base model."""

    layout = "hf/llama"
    config_class = "LlamaConfig"
    trunk = "model"
    layers = "layers"
    embedding = "embed_tokens.weight"
    modules: ClassVar[dict[str, str]] = {
        "embedding": "embed_tokens",
        "norm_attention": "layers.{i}.input_layernorm",
        "q": "layers.{i}.self_attn.q_proj",
        "k": "layers.{i}.self_attn.k_proj",
        "v": "layers.{i}.self_attn.v_proj",
        "o": "layers.{i}.self_attn.o_proj",
        "norm_ffn": "layers.{i}.post_attention_layernorm",
        "gate": "layers.{i}.mlp.gate_proj",
        "up": "layers.{i}.mlp.up_proj",
        "down": "layers.{i}.mlp.down_proj",
        "norm_final": "norm",
    }
    points: ClassVar[dict] = {
        "norm_attention": ("input_layernorm", first),
        "v": ("self_attn.v_proj", first),
        "probabilities": ("self_attn", second),
        "attention": ("self_attn", first),
        "norm_ffn": ("post_attention_layernorm", first),
        "gate": ("mlp.gate_proj", first),
        "up": ("mlp.up_proj", first),
        "ffn": ("mlp", first),
    }
    states: ClassVar[dict[str, str]] = {"final": "norm"}
    wrong_fields = ("hidden_act", "rms_norm_eps")

    def model_class(self) -> tuple[str, dict[str, Any]]:
        """See :meth:`HfOracle.model_class`."""
        headed = self.prefix or "lm_head.weight" in self.tensors
        return "LlamaForCausalLM" if headed else "LlamaModel", {}

    def heads(self) -> dict[str, str]:
        """See :meth:`HfOracle.heads`."""
        if self.facts.tied and hasattr(self.model, "lm_head"):
            return {"head.lm": f"{self.prefix}embed_tokens"}
        return {"head.lm": "lm_head"}

    def outputs(self, result: Any) -> dict[str, Tensor]:
        """See :meth:`HfOracle.outputs`."""
        return {"lm": result.logits} if hasattr(result, "logits") else {}

    def _facts(self) -> Facts:
        rope = self.parsed.rope_parameters
        longrope = rope["rope_type"] == "longrope"
        return replace(
            super()._facts(),
            rotary="half",
            rotary_dim=self.parsed.head_dim,
            switches_at=rope["original_max_position_embeddings"] if longrope else 0,
        )

    def rebased(self, factor: float) -> dict[str, Any] | None:
        """See :meth:`Oracle.rebased`."""
        if not self.facts.base_matters:
            return None
        rope = self.config["rope_parameters"]
        return {**self.config, "rope_parameters": {**rope, "rope_theta": factor * rope["rope_theta"]}}

    def wrong_configs(self) -> dict[str, dict[str, Any]]:
        """See :meth:`Oracle.wrong_configs`."""
        wrong, rope = super().wrong_configs(), self.config["rope_parameters"]
        if rebased := self.rebased(1.1):
            wrong["wrong rotary base"] = rebased
        if rope["rope_type"] != "default":
            plain = {"rope_type": "default", "rope_theta": rope["rope_theta"]}
            wrong["rotary scaling left out"] = {**self.config, "rope_parameters": plain}
        return wrong
