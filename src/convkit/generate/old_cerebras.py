"""A small ModelZoo llama in the middle of its training, as releases 1.7 and 1.9 saved it.

``generated://cerebras-old?release=1.7`` names it. The file has everything that the repair of such files handles: a
``TensorScalarDict`` (release 1.7), tied copies that were left out, schedulers at step 0. ``workers=3`` adds the files
of three data loaders. Its yaml has the field names of release 2.1; release 1.9 named one or two fields differently.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from convkit.errors import UsageError
from convkit.generate.generator import Generator
from convkit.generate.sizes import at_least_one

if TYPE_CHECKING:
    import numpy as np

_STEP = 15
_MILESTONES = [10, 20]
#: samples per step
_BATCH = 100


@dataclass(frozen=True, kw_only=True)
class OldCerebras(Generator):
    """The options."""

    release: Literal["1.7", "1.8", "1.9"] = "1.7"
    heads: int = 6
    kv_heads: int = 2
    hidden: int = 60
    layers: int = 3
    intermediate: int = 84
    vocab: int = 211
    positions: int = 320
    workers: int = 0

    def __post_init__(self) -> None:
        at_least_one(self, "heads", "kv_heads", "hidden", "layers", "intermediate", "vocab", "positions")
        if self.workers < 0:
            raise UsageError(f"workers is {self.workers}", remedy="it must be at least 0")
        if self.hidden % (2 * self.heads):
            raise UsageError(f"hidden {self.hidden} isn't an even multiple of heads {self.heads}")
        if self.heads % self.kv_heads:
            raise UsageError(f"heads {self.heads} isn't a multiple of kv_heads {self.kv_heads}")

    def write(self, folder: Path) -> None:
        """Write ``model.mdl``, ``params.yaml`` and ``data_iter`` into a folder, which is made if it doesn't exist."""
        import yaml

        from convkit.generate.old_mdl import write_old
        from convkit.state.cerebras.loader_state import Workers, write_workers

        folder.mkdir(parents=True, exist_ok=True)
        left_out = ("model.model.lm_head.weight", "model.model.ln_f.weight") if self.release < "1.9" else ()
        write_old(folder / "model.mdl", self._state(), self.release, left_out)
        (folder / "params.yaml").write_text(yaml.safe_dump({"model": self._config()}), encoding="utf-8")
        if self.workers:
            samples = {worker: _STEP * (_BATCH - worker) for worker in range(self.workers)}
            write_workers(folder / "data_iter", Workers(_STEP, samples))

    def _state(self) -> dict[str, Any]:
        import numpy as np

        from convkit.generate.old_mdl import TensorScalarDict

        weights = {key: self._weight(key, shape) for key, shape in self._shapes().items()}
        # one tensor, two names
        weights["model.lm_head.weight"] = weights["model.embedding_layer.word_embeddings.weight"]
        weights["model.ln_f.weight"] = weights["model.transformer_decoder.norm.weight"]
        kept = TensorScalarDict if self.release == "1.7" else dict
        moments = {
            str(number): kept(step=np.array(_STEP, "f4"), exp_avg=np.zeros(weight.shape, "f4"))
            for number, weight in enumerate(weights.values())
            if weight.ndim == 1
        }
        return {
            "model": weights,
            "optimizer": {"state": moments, "param_groups": [{"lr": 1e-3, "betas": (0.9, 0.95)}]},
            "lr_scheduler": {
                "last_epoch": 1,
                "_milestones": _MILESTONES,
                "_schedulers": [{"last_epoch": 1} for _ in range(len(_MILESTONES) + 1)],
            },
            "global_step": _STEP,
        }

    def _weight(self, key: str, shape: tuple[int, ...]) -> np.ndarray:
        from convkit.generate.weights import EMBEDDING, MATRIX, NORM, draw

        mean, std = (1.0, NORM) if len(shape) == 1 else (0.0, MATRIX / shape[1] ** 0.5)
        if "embeddings" in key:
            std = EMBEDDING
        return (mean + std * draw(self.seed, key, prod(shape))).astype("f4").reshape(shape)

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        hidden, narrow, wide = self.hidden, self.hidden // self.heads * self.kv_heads, self.intermediate
        layer = {
            "self_attn.proj_q_dense_layer": (hidden, hidden),
            "self_attn.proj_k_dense_layer": (narrow, hidden),
            "self_attn.proj_v_dense_layer": (narrow, hidden),
            "self_attn.proj_output_dense_layer": (hidden, hidden),
            "norm1": (hidden,),
            "norm3": (hidden,),
            "ffn.ffn.0.linear_layer": (wide, hidden),
            "ffn.ffn.0.linear_layer_for_glu": (wide, hidden),
            "ffn.ffn.1.linear_layer": (hidden, wide),
        }
        return {
            "model.embedding_layer.word_embeddings.weight": (self.vocab, hidden),
            **{
                f"model.transformer_decoder.layers.{number}.{name}.weight": shape
                for number in range(self.layers)
                for name, shape in layer.items()
            },
            "model.transformer_decoder.norm.weight": (hidden,),
        }

    def _config(self) -> dict[str, Any]:
        return {
            "vocab_size": self.vocab,
            "hidden_size": self.hidden,
            "num_hidden_layers": self.layers,
            "num_heads": self.heads,
            "filter_size": self.intermediate,
            "max_position_embeddings": self.positions,
            "attention_module": "multiquery_attention",
            "extra_attention_params": {"num_kv_groups": self.kv_heads},
            "position_embedding_type": "rotary",
            "rotary_dim": self.hidden // self.heads,
            "nonlinearity": "swiglu",
            "norm_type": "rmsnorm",
            "layer_norm_epsilon": 3e-5,
            "share_embedding_weights": True,
            "use_projection_bias_in_attention": False,
            "use_ffn_bias_in_attention": False,
            "use_ffn_bias": False,
            "use_bias_in_output": False,
            "dropout_rate": 0.0,
            "embedding_dropout_rate": 0.0,
            "attention_dropout_rate": 0.0,
            "norm_first": True,
        }
