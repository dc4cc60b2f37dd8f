"""The oracle of a vision transformer of ``transformers``: it takes pixels, and has a class token before its patches."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

from convkit.oracles.hf.model import HfEncoder
from convkit.oracles.hf.stages import Parts
from convkit.oracles.inputs import Input
from convkit.oracles.oracle import Facts
from convkit.oracles.parts import Cut, Lines, Part

if TYPE_CHECKING:
    from torch import Tensor


class HfVision(HfEncoder):
    """A model in the class that fits the head in the file. Its positions are those of the class token and patches."""

    @property
    def _embedding(self) -> str:
        return str(self.family.outside["patches"])

    def _facts(self) -> Facts:
        config = self.parsed
        (height, width), patch = _pair(config.image_size), _pair(config.patch_size)
        return Facts(
            layers=config.num_hidden_layers,
            heads=config.num_attention_heads,
            kv_heads=config.num_attention_heads,
            vocab_size=0,
            positions=(height // patch[0]) * (width // patch[1]) + 1,
            causal=False,
            image=(config.num_channels, height, width),
            patch=patch,
        )

    def _roles(self) -> Iterator[tuple[str, Part]]:
        for role, part in super()._roles():
            yield role, Cut(part.key, ins=(1, 2, 3)) if role == "patches.weight" else part
        token, positions = (self.prefix + self.family.tables[role] for role in ("class_token", "positions"))
        yield "class_token.weight", Lines(token)
        yield "class_position.weight", Lines(positions)
        yield "patch_positions.weight", Lines(positions, start=1, stop=self.facts.positions)

    @property
    def inputs(self) -> dict[str, Input]:
        """See :attr:`Oracle.inputs`."""
        return {"pixel_values": Input(needed=True, image=self.facts.image)}

    @cached_property
    def parts(self) -> Parts:
        """See :attr:`HfOracle.parts`: one module makes the embedding of an image."""
        import torch

        made, embeddings = super().parts, self.base.embeddings
        shape = self.facts.positions, self.parsed.hidden_size

        def nothing(pixels: Tensor, **_: Any) -> Tensor:
            return torch.zeros(len(pixels), *shape)

        before = dict.fromkeys((*embeddings.modules(), *made.before))
        return Parts(made.model, [*before], made.layers, {embeddings: nothing})


def _pair(size: Any) -> tuple[int, int]:
    """Height and width, which may be one number."""
    height, width = size if isinstance(size, list | tuple) else (size, size)
    return height, width
