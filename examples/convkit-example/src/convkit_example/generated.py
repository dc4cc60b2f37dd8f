"""``generated://acorn?option=value``: models of Acorn's to try things on. The weights show a wrong forward pass."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from convkit.errors import UsageError
from convkit.generate import Generator, Parameter, drawn, write_arrays
from convkit.generate.weights import EMBEDDING, MATRIX, NORM


@dataclass(frozen=True, kw_only=True)
class Acorn(Generator):
    """The options. No two sizes are equal, so that a wrong reshape doesn't fit by accident."""

    layout = "acorn/decoder"

    dtype: Literal["float32", "bfloat16"] = "float32"
    width: int = 60
    depth: int = 3
    heads: int = 6
    groups: int = 2
    inner: int = 84
    vocab: int = 211
    context: int = 320
    theta: float = 5000.0
    eps: float = 3e-5
    tied: bool = False

    def __post_init__(self) -> None:
        if self.width % (2 * self.heads) or self.heads % self.groups:
            raise UsageError(f"width {self.width}, heads {self.heads}, groups {self.groups}", remedy="see the README")

    def write(self, folder: Path) -> None:
        """Write ``model.acorn`` and ``config.json``."""
        from convkit.checkpoint.tensors import value_dtype

        folder.mkdir(parents=True, exist_ok=True)
        kind = value_dtype(self.dtype)
        weights = {key: drawn(self.seed, key, one).astype(kind) for key, one in self._parameters().items()}
        write_arrays("acorn", folder, weights)
        fields = ("width", "depth", "heads", "groups", "inner", "vocab", "context", "theta", "eps", "tied")
        config = {"framework": "acorn"} | {name: getattr(self, name) for name in fields}
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")

    def _parameters(self) -> dict[str, Parameter]:
        width, rows = self.width, (self.heads + 2 * self.groups) * (self.width // self.heads)
        found = {"tokens": Parameter((self.vocab, width), EMBEDDING)}
        for i in range(self.depth):
            found |= {
                f"blocks.{i}.norm_1": Parameter((width,), NORM, 1.0),
                f"blocks.{i}.qkv": Parameter((rows, width), MATRIX / width**0.5),
                f"blocks.{i}.out": Parameter((width, width), MATRIX / width**0.5),
                f"blocks.{i}.norm_2": Parameter((width,), NORM, 1.0),
                f"blocks.{i}.gate_up": Parameter((2 * self.inner, width), MATRIX / width**0.5),
                f"blocks.{i}.down": Parameter((self.inner, width), MATRIX / self.inner**0.5),
            }
        found["norm"] = Parameter((width,), NORM, 1.0)
        return found if self.tied else found | {"head": Parameter((self.vocab, width), MATRIX / width**0.5)}
