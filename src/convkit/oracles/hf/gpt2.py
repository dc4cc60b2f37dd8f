"""GPT-2 in ``transformers``: learned positions, fused q, k and v, weights stored ``[in, out]``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from convkit.oracles.hf.model import HfOracle, first, second

if TYPE_CHECKING:
    from torch import Tensor


class HfGpt2(HfOracle):
    """``GPT2LMHeadModel``, or ``GPT2Model`` for a checkpoint of the base model."""

    layout = "hf/gpt2"
    config_class = "GPT2Config"
    trunk = "transformer"
    layers = "h"
    embedding = "wte.weight"
    modules: ClassVar[dict[str, str]] = {
        "embedding": "wte",
        "positions": "wpe",
        "norm_attention": "h.{i}.ln_1",
        "q": "h.{i}.attn.c_attn",
        "k": "h.{i}.attn.c_attn",
        "v": "h.{i}.attn.c_attn",
        "o": "h.{i}.attn.c_proj",
        "norm_ffn": "h.{i}.ln_2",
        "up": "h.{i}.mlp.c_fc",
        "down": "h.{i}.mlp.c_proj",
        "norm_final": "ln_f",
    }
    transposed = frozenset({"q", "k", "v", "o", "up", "down"})
    fused: ClassVar[dict[str, tuple[int, int]]] = {"q": (0, 3), "k": (1, 3), "v": (2, 3)}
    points: ClassVar[dict] = {
        "norm_attention": ("ln_1", first),
        "v": ("attn.c_attn", lambda out: out.chunk(3, dim=-1)[2]),
        "probabilities": ("attn", second),
        "attention": ("attn", first),
        "norm_ffn": ("ln_2", first),
        "up": ("mlp.c_fc", first),
        "ffn": ("mlp", first),
    }
    states: ClassVar[dict[str, str]] = {"final": "ln_f"}
    wrong_fields = ("activation_function", "layer_norm_epsilon")

    def model_class(self) -> tuple[str, dict[str, Any]]:
        """See :meth:`HfOracle.model_class`; the hub's own gpt2 has a head and no prefix, and says so in its config."""
        claims = any("LMHead" in name for name in self.parsed.architectures or ())
        headed = self.prefix or "lm_head.weight" in self.tensors or (claims and self.parsed.tie_word_embeddings)
        return "GPT2LMHeadModel" if headed else "GPT2Model", {}

    def heads(self) -> dict[str, str]:
        """See :meth:`HfOracle.heads`."""
        if self.facts.tied and hasattr(self.model, "lm_head"):
            return {"head.lm": f"{self.prefix}wte"}
        return {"head.lm": "lm_head"}

    def outputs(self, result: Any) -> dict[str, Tensor]:
        """See :meth:`HfOracle.outputs`."""
        return {"lm": result.logits} if hasattr(result, "logits") else {}

    def wrong_configs(self) -> dict[str, dict[str, Any]]:
        """See :meth:`Oracle.wrong_configs`."""
        wrong = super().wrong_configs()
        if self.facts.heads % 2 == 0:
            wrong["wrong head count"] = {**self.config, "n_head": self.facts.heads // 2}
        return wrong
