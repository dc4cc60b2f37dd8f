"""What equivalence is measured against, by transformers alone: ``python -m benchmarks.forward streamed|whole ...``.

- ``streamed MODEL``: one forward pass in float32 of a checkpoint of any size. Each module's weights are read when it
  is called, and let go when it has returned.
- ``whole MODEL OTHER``: two checkpoints loaded whole, run, and their logits compared.

Nothing of convkit is imported. The input is 2 x 256 random ids.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from torch.nn import Module, Parameter
from transformers import AutoConfig, AutoModelForCausalLM


def ids(vocab: int) -> torch.Tensor:
    """The input, int64 ``[2, 256]``."""
    return torch.randint(vocab, (2, 256), generator=torch.Generator().manual_seed(0))


class Weights:
    """The tensors of a folder of safetensors, read as they are asked for."""

    def __init__(self, folder: Path) -> None:
        index = folder / "model.safetensors.index.json"
        self._folder = folder
        self._file_of: Mapping[str, str] = json.loads(index.read_text())["weight_map"] if index.exists() else {}

    def read(self, key: str) -> torch.Tensor:
        """One tensor in float32."""
        with safe_open(self._folder / self._file_of.get(key, "model.safetensors"), "pt") as file:
            return file.get_tensor(key).float()


def streamed(folder: Path) -> torch.Tensor:
    """The logits ``[2, 256, vocab]`` of a llama-like model that has at no time more than one layer in memory."""
    config = AutoConfig.from_pretrained(folder)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    base, weights = model.model, Weights(folder)
    base.rotary_emb = type(base.rotary_emb)(config)  # its table isn't in the checkpoint
    keys = {module: name for name, module in model.named_modules()}
    for stage in (base.embed_tokens, *base.layers, base.norm, model.lm_head):
        absent = dict(stage.named_parameters())

        def fill(module: Module, *_: object, absent: Mapping[str, Parameter] = absent) -> None:
            put(module, {name: weights.read(f"{keys[module]}.{name}") for name in absent})

        def drop(module: Module, *_: object, absent: Mapping[str, Parameter] = absent) -> None:
            put(module, absent)

        stage.register_forward_pre_hook(fill)
        stage.register_forward_hook(drop)
    with torch.inference_mode():
        return model(ids(config.vocab_size), use_cache=False).logits


def put(module: Module, tensors: Mapping[str, torch.Tensor]) -> None:
    """Give a module these parameters."""
    for name, tensor in tensors.items():
        owner, _, own = name.rpartition(".")
        setattr(module.get_submodule(owner), own, Parameter(tensor, requires_grad=False))


def whole(folder: Path) -> torch.nn.Module:
    """A model in float32, as its library loads it."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def difference(one: Path, other: Path) -> float:
    """The largest difference of the logits of two models, both in memory, relative to the largest logit."""
    models = whole(one), whole(other)
    with torch.inference_mode():
        a, b = (model(ids(model.config.vocab_size), use_cache=False).logits for model in models)
    return float((a - b).abs().max() / a.abs().max())


if __name__ == "__main__":
    what, *folders = sys.argv[1], *map(Path, sys.argv[2:])
    print(float(streamed(*folders).abs().max()) if what == "streamed" else difference(*folders))
