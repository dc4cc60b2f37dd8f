"""A small Paxml language model in the middle of its training with Adam: ``generated://pax?kv_heads=2``.

Names and shapes: Praxis of 2024-05, ``layers/{transformers,attentions,grouped_query_attention}.py``; for the optimizer
state, ``optimizer_prefix_vectorization.py``. A LayerNorm's scale is stored minus one there, and an
RmsNorm has no offset.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from convkit.errors import UsageError
from convkit.generate.generator import Parameter, write_arrays
from convkit.generate.training import STEP, Training, moments

if TYPE_CHECKING:
    import numpy as np

_WEIGHTS = "mdl_vars.params."
_TRANSFORMER = "lm.transformer."
#: length of the optimizer's chain, and Adam's position in it
_CHAIN, _ADAM = 4, 2


@dataclass(frozen=True, kw_only=True)
class Pax(Training):
    """The options."""

    #: heads of keys and values; 0 means a fused kernel of queries, keys and values
    kv_heads: int = 0
    biases: bool = True
    norm: Literal["layer", "rms"] = "layer"
    #: whether the layers are stacked in one sub-tree
    repeat: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kv_heads < 0 or (self.kv_heads and self.heads % self.kv_heads):
            raise UsageError(f"heads {self.heads} isn't a multiple of kv_heads {self.kv_heads}")
        if self.kv_heads and self.head_dim % 2:
            raise UsageError(f"head_dim is {self.head_dim}", remedy="rotary positions need it even")

    def write(self, folder: Path) -> None:
        """See :meth:`Generator.write`: a step folder, with Pax's metadata."""
        write_arrays("pax", folder, self.leaves(), {"pax_metadata": {"version": 1.1}})

    def parameters(self) -> dict[str, Parameter]:
        """See :meth:`Training.parameters`."""
        return {f"{_WEIGHTS}{name}": parameter for name, parameter in self._model().items()}

    def state(self) -> dict[str, np.ndarray]:
        """See :meth:`Training.state`."""
        import numpy as np

        found = {"step": np.array(STEP, "uint32")}
        if not self.adam:
            return found
        whole = "opt_states_0.no_prefix" if self.repeat else "opt_states_0"
        stacked = f"opt_states_0.p#{self.layers}#i-1"
        groups = {whole: np.array(STEP, "int32")}
        if self.repeat:
            groups[stacked] = np.full(self.layers, STEP, "int32")
        for group, count in groups.items():
            found |= {f"{group}_{at}.count": count for at in range(_CHAIN)}
        for name, parameter in self._model().items():
            group = stacked if self.repeat and name.startswith(_TRANSFORMER) else whole
            keys = f"{group}_{_ADAM}.m.params.{name}", f"{group}_{_ADAM}.v.params.{name}"
            found |= moments(self.seed, keys, parameter)
        return found

    def _model(self) -> dict[str, Parameter]:
        from convkit.generate.weights import BIAS, EMBEDDING

        found = {
            "lm.softmax.logits_ffn.linear.w": Parameter((self.hidden, self.vocab), EMBEDDING),
            "lm.softmax.logits_ffn.bias.b": Parameter((self.vocab,), BIAS),
            **{f"lm.final_ln.{name}": parameter for name, parameter in self._norm().items()},
        }
        layer = self._layer()
        if self.repeat:
            at = f"{_TRANSFORMER}repeat.sub.x_layers_0."
            stacks = {name: Parameter((self.layers, *one.shape), one.std, one.mean) for name, one in layer.items()}
            return found | {f"{at}{name}": stack for name, stack in stacks.items()}
        for number in range(self.layers):
            found |= {f"{_TRANSFORMER}x_layers_{number}.{name}": parameter for name, parameter in layer.items()}
        return found

    def _norm(self) -> dict[str, Parameter]:
        from convkit.generate.weights import BIAS, NORM

        if self.norm == "rms":
            return {"scale": Parameter((self.hidden,), NORM, 1.0)}
        return {"scale": Parameter((self.hidden,), NORM), "bias": Parameter((self.hidden,), BIAS)}

    def _layer(self) -> dict[str, Parameter]:
        from convkit.generate.weights import BIAS, MATRIX

        width, heads, dim, wide = self.hidden, self.heads, self.head_dim, self.intermediate
        shapes: dict[str, tuple[int, ...]]
        if self.kv_heads:
            # Praxis has no axis for a single head
            keys = (self.kv_heads, dim) if self.kv_heads > 1 else (dim,)
            shapes = {f"self_attention.{name}": (width, *keys) for name in ("key", "value")}
            shapes["self_attention.query"] = (width, heads, dim)
        else:
            shapes = {"self_attention.combined_qkv": (3, width, heads, dim)}
        found = {f"{name}.w": Parameter(shape, MATRIX / width**0.5) for name, shape in shapes.items()}
        found["self_attention.post.w"] = Parameter((width, heads, dim), MATRIX / (heads * dim) ** 0.5)
        ups = ("ffn_layer1", "ffn_layer1_gate") if self.gated else ("ffn_layer1",)
        found |= {f"ff_layer.{name}.linear.w": Parameter((width, wide), MATRIX / width**0.5) for name in ups}
        found["ff_layer.ffn_layer2.linear.w"] = Parameter((wide, width), MATRIX / wide**0.5)
        if self.biases:
            of: dict[str, tuple[int, ...]] = {
                name: (3, heads, dim) if "combined" in name else shape[1:] for name, shape in shapes.items()
            }
            of |= {"self_attention.post": (width,), "ff_layer.ffn_layer2.bias": (width,)}
            of |= {f"ff_layer.{name}.bias": (wide,) for name in ups}
            found |= {f"{name}.b": Parameter(shape, BIAS) for name, shape in of.items()}
        for at in ("layer_norm", "ff_layer.layer_norm"):
            found |= {f"{at}.{name}": parameter for name, parameter in self._norm().items()}
        return found
