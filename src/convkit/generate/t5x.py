"""A small T5X T5 in the middle of its training with AdamW: ``generated://t5x?decoder_layers=1``.

Names and shapes: t5x ``examples/t5/network.py`` and ``layers.py`` at dddbfca; for the optimizer state, optax's
``chain(clip, adamw)`` as T5X saves it. T5X doesn't scale attention scores, so the queries are small.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from convkit.generate.generator import Parameter, write_arrays
from convkit.generate.sizes import at_least_one
from convkit.generate.training import STEP, Training, moments

if TYPE_CHECKING:
    import numpy as np

_BUCKETS = 32


@dataclass(frozen=True, kw_only=True)
class T5X(Training):
    """The options; ``layers`` counts the encoder's layers."""

    decoder_layers: int = 2
    #: whether the output is tied to the embedding
    tied: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least_one(self, "decoder_layers")

    def write(self, folder: Path) -> None:
        """See :meth:`Generator.write`."""
        write_arrays("t5x", folder, self.leaves(), {})

    def parameters(self) -> dict[str, Parameter]:
        """See :meth:`Training.parameters`."""
        return {f"target.{name}": parameter for name, parameter in self._model().items()}

    def state(self) -> dict[str, np.ndarray]:
        """See :meth:`Training.state`."""
        import numpy as np

        found = {"state.step": np.array(STEP, "int32")}
        if self.adam:
            adam = "state.param_states.1.0."
            found[f"{adam}count"] = np.array(STEP, "int32")
            for name, parameter in self._model().items():
                found |= moments(self.seed, (f"{adam}mu.{name}", f"{adam}nu.{name}"), parameter)
        return found

    def _model(self) -> dict[str, Parameter]:
        from convkit.generate.weights import EMBEDDING, MATRIX, NORM

        norm = Parameter((self.hidden,), NORM, 1.0)
        found = {"token_embedder.embedding": Parameter((self.vocab, self.hidden), EMBEDDING)}
        if not self.tied:
            found["decoder.logits_dense.kernel"] = Parameter((self.hidden, self.vocab), MATRIX / self.hidden**0.5)
        for stack, depth in (("encoder", self.layers), ("decoder", self.decoder_layers)):
            found[f"{stack}.relpos_bias.rel_embedding"] = Parameter((self.heads, _BUCKETS), EMBEDDING)
            found[f"{stack}.{stack}_norm.scale"] = norm
            for layer in range(depth):
                own = {**self._attentions(stack, norm), "pre_mlp_layer_norm.scale": norm, **self._mlp()}
                found |= {f"{stack}.layers_{layer}.{name}": parameter for name, parameter in own.items()}
        return found

    def _attentions(self, stack: str, norm: Parameter) -> dict[str, Parameter]:
        from convkit.generate.weights import MATRIX

        joined = self.heads * self.head_dim
        into = Parameter((self.hidden, joined), MATRIX / self.hidden**0.5)
        kernels = {
            "query": Parameter(into.shape, into.std / self.head_dim**0.5),
            "key": into,
            "value": into,
            "out": Parameter((joined, self.hidden), MATRIX / joined**0.5),
        }
        names = {"attention": "pre_attention_layer_norm"}
        if stack == "decoder":
            names = {
                "self_attention": "pre_self_attention_layer_norm",
                "encoder_decoder_attention": "pre_cross_attention_layer_norm",
            }
        found = {f"{name}.{part}.kernel": kernel for name in names for part, kernel in kernels.items()}
        return found | {f"{scale}.scale": norm for scale in names.values()}

    def _mlp(self) -> dict[str, Parameter]:
        from convkit.generate.weights import MATRIX

        up = Parameter((self.hidden, self.intermediate), MATRIX / self.hidden**0.5)
        down = Parameter((self.intermediate, self.hidden), MATRIX / self.intermediate**0.5)
        names = ("wi_0", "wi_1") if self.gated else ("wi",)
        return {**{f"mlp.{name}.kernel": up for name in names}, "mlp.wo.kernel": down}
