"""The image's model of Llama 3.2 Vision, with the tensors of ModelZoo's converter: tiles of patches, two stacks.

Source: transformers 5.23, ``models/mllama``, as ModelZoo has no class of it. Where they say the same, ModelZoo 2.10.0:
``layers/TransformerEncoderLayer.py`` (gates), ``tools/checkpoint_converters/mllama.py`` (names, order of the pixels).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convkit.errors import ConvkitError
from convkit.oracles.blocks.attention import Attention
from convkit.oracles.blocks.block import Block, gated
from convkit.oracles.blocks.feed_forward import FeedForward
from convkit.oracles.blocks.norms import Norm
from convkit.oracles.blocks.weights import Weights
from convkit.oracles.cerebras.model import NEIGHBOUR, activation, find_prefix
from convkit.oracles.oracle import Trace
from convkit.oracles.parts import ChannelsLast, Lines, Part
from convkit.oracles.tensors import shape_of

if TYPE_CHECKING:
    from torch import Tensor

#: of the norms outside the layers, whatever the yaml says of the others
_EPSILON = 1e-5
#: a tile's positions are filled up to a multiple of this
_MULTIPLE = 8
#: role in a layer -> its module
_LINEAR = {
    role: f"self_attn.proj_{name}_dense_layer" for role, name in zip("qkvo", ("q", "k", "v", "output"), strict=True)
}
_FFN = {"up": "ffn.ffn.0.linear_layer", "down": "ffn.ffn.1.linear_layer"}
_NORMS = {"norm_attention": "norm1", "norm_ffn": "norm2"}
_TABLES = {
    "tile_positions": ("gated_positional_embedding", "tile_embedding"),
    "tiles_before": ("pre_tile_positional_embedding", "embedding"),
    "tiles_after": ("post_tile_positional_embedding", "embedding"),
}


class MllamaImage:
    """Tiles in which each patch and a class token have a position, and the tile has one in the image.

    Positions that fill up a tile, and tiles that an image lacks, aren't seen by each other. All others see them, and
    they see all others.

    Raises:
        ConvkitError: a field has a value that no model has, or tensors are missing.
    """

    def __init__(self, config: dict[str, Any], tensors: Mapping[str, Tensor], path: Path | None) -> None:
        self.config, self.tensors, self.path = config, tensors, path
        self.wrapper, _ = find_prefix(tensors, ["image_model."], "class_embedding")
        self.roles: dict[str, Part] = {}
        self.weights = Weights(self._part, self.roles.__contains__)
        self.first, self.later = self._size("num_hidden_layers"), self._size("num_global_layers")
        self.hidden, self.heads = self._size("hidden_size"), self._size("num_heads")
        self.filters, self.channels = self._size("filter_size"), self._size("num_channels")
        self.size, self.patch = self._sizes("image_size"), self._sizes("patch_size")
        self.grid = (self.size[0] // self.patch[0], self.size[1] // self.patch[1])
        self.positions = self.grid[0] * self.grid[1] + 1
        self.ratios: list[tuple[int, ...]] = [
            self._pair(one, "supported_aspect_ratios") for one in self._list("supported_aspect_ratios")
        ]
        self.tiles = max(rows * columns for rows, columns in self.ratios)
        self.kept: list[int] = self._list("intermediate_layers_indices")
        if not all(type(i) is int and 0 <= i < self.first for i in self.kept):
            raise self._strange("intermediate_layers_indices", f"numbers of layers, 0 to {self.first - 1}")
        self.nonlinearity = str(config.get("nonlinearity", "gelu")).lower()
        if self.nonlinearity.endswith("glu"):
            raise self._strange("nonlinearity", "an activation without a gate")
        self.eps = float(config.get("layer_norm_epsilon", _EPSILON))
        head_dim = self.hidden // self.heads
        attention = Attention(head_dim, scale=head_dim**-0.5)
        self.block = Block("pre", Norm(self.eps), attention, FeedForward(activation(self.nonlinearity)))
        self.norm = Norm(_EPSILON)

    def _strange(self, name: str, expected: str) -> ConvkitError:
        problem = f"is {self.config.get(name)!r}, not {expected}"
        return ConvkitError(problem, path=self.path, key=f"image_model.{name}", remedy="correct the yaml")

    def _size(self, name: str) -> int:
        found = self.config.get(name)
        if type(found) is not int or found < 1:
            raise self._strange(name, "a size")
        return found

    def _list(self, name: str) -> list[Any]:
        found = self.config.get(name)
        if not isinstance(found, list) or not found:
            raise self._strange(name, "a list")
        return found

    def _sizes(self, name: str) -> tuple[int, int]:
        return self._pair(self.config.get(name), name)

    def _pair(self, found: Any, name: str) -> tuple[int, int]:
        if not isinstance(found, list) or len(found) != 2 or not all(type(one) is int and one > 0 for one in found):
            raise self._strange(name, "two sizes, rows before columns")
        return found[0], found[1]

    def _part(self, role: str) -> Tensor:
        return self.roles[role].of(self.tensors)

    def claim_all(self, width: int) -> None:
        """Give a role to every tensor of the image's model, and to the projector to hidden states of ``width``."""
        hidden, shapes = self.hidden, len(self.ratios) + 1
        pixels = (*self.patch, self.channels)
        patches = self.channels * self.patch[0] * self.patch[1]
        self._claim("patches.weight", "patch_embedding.weight", (hidden, patches))
        self.roles["patches.weight"] = ChannelsLast(self.roles["patches.weight"].key, pixels=pixels)
        self._claim("class_token.weight", "class_embedding", (hidden,))
        self.roles["class_token.weight"] = Lines(self.roles["class_token.weight"].key)
        self._claim("patch_positions.weight", "gated_positional_embedding.embedding", (self.positions, hidden))
        for role, (module, table) in _TABLES.items():
            each = self.positions * hidden if role == "tile_positions" else hidden
            self._claim(f"{role}.weight", f"{module}.{table}.weight", (shapes, self.tiles * each))
            self._claim(f"{role}.gate", f"{module}.gate", (1,))
        self._claim_module("norm_embedding", "layernorm_pre", (hidden,), (hidden,))
        self._claim_module("norm_encoder", "layernorm_post", (hidden,), (hidden,))
        for i in range(self.first + self.later):
            self._claim_layer(i)
        features = hidden * (len(self.kept) + 1)
        self._claim("projector.weight", "projection.weight", (width, features), at="")
        self._claim("projector.bias", "projection.bias", (width,), at="")

    def _claim_layer(self, i: int) -> None:
        gates, hidden, filters = i >= self.first, self.hidden, self.filters
        stack = f"global_transformer.layers.{i - self.first}." if gates else f"transformer.layers.{i}."
        for role, module in _LINEAR.items():
            self._claim(f"layers.{i}.{role}.weight", f"{stack}{module}.weight", (hidden, hidden))
        for role, module in _NORMS.items():
            self._claim_module(f"layers.{i}.{role}", f"{stack}{module}", (hidden,), (hidden,))
        self._claim_module(f"layers.{i}.up", f"{stack}{_FFN['up']}", (filters, hidden), (filters,))
        self._claim_module(f"layers.{i}.down", f"{stack}{_FFN['down']}", (hidden, filters), (hidden,))
        for part in ("attention", "ffn") if gates else ():
            name = "attn" if part == "attention" else part
            self._claim(f"layers.{i}.gate_{part}", f"{stack}gate_{name}_weight", (1,))

    def _claim_module(self, role: str, module: str, weight: tuple[int, ...], bias: tuple[int, ...]) -> None:
        self._claim(f"{role}.weight", f"{module}.weight", weight)
        self._claim(f"{role}.bias", f"{module}.bias", bias)

    def _claim(self, role: str, name: str, shape: tuple[int, ...], at: str = "image_model.") -> None:
        key = f"{self.wrapper}{at}{name}"
        if key not in self.tensors:
            raise ConvkitError("missing key", path=self.path, key=key, remedy="the config says that the model has it")
        if (found := shape_of(self.tensors, key)) != shape:
            remedy = "config and tensors are of different models"
            raise ConvkitError(f"shape {found}, the config says {shape}", path=self.path, key=key, remedy=remedy)
        self.roles[role] = Part(key)

    def start(self, pixels: Tensor, shape: Tensor) -> dict[str, Tensor]:
        """What the stages read of pixels ``[b, tiles, channels, height, width]`` and of the image's shape ``[b]``."""
        import torch

        areas = torch.tensor([1, *(rows * columns for rows, columns in self.ratios)])
        there = torch.arange(self.tiles) < areas[shape][:, None]
        filled = -self.positions % _MULTIPLE
        seen = there[:, :, None] & (torch.arange(self.positions + filled) < self.positions)
        unseen = ~seen.flatten(1)
        cut = pixels.unflatten(4, (self.grid[1], -1)).unflatten(3, (self.grid[0], -1))
        across = there[:, :, None].expand(-1, -1, self.positions).flatten(1)
        return {
            "patches": cut.permute(0, 1, 3, 5, 2, 4, 6).flatten(4).flatten(2, 3),
            "shape": shape,
            "bias": _hiding(unseen[:, None, :, None] & unseen[:, None, None, :]),
            "tiles": _hiding(~across[:, None, None, :]),
        }

    def embedded(self, given: Mapping[str, Tensor]) -> Tensor:
        """The hidden states ``[b, tiles * positions, hidden]`` that enter the first layer."""
        import torch
        from torch.nn import functional

        weights, shape = self.weights, given["shape"]
        x = weights.linear("patches", given["patches"]) + self._tiles("tiles_before", shape)
        token = weights["class_token.weight"].expand(*x.shape[:2], 1, -1)
        x = torch.cat((token, x), 2)
        gate = weights["tile_positions.gate"].tanh()
        of_tiles = weights["tile_positions.weight"][shape].unflatten(1, x.shape[1:])
        x = x + (1 - gate) * weights["patch_positions.weight"] + gate * of_tiles
        x = self.norm(weights, "norm_embedding", x)
        return functional.pad(x, (0, 0, 0, -self.positions % _MULTIPLE)).flatten(1, 2)

    def _tiles(self, role: str, shape: Tensor) -> Tensor:
        """What is added to each position of a tile, ``[b, tiles, 1, hidden]``."""
        table = self.weights[f"{role}.weight"][shape].unflatten(1, (self.tiles, 1, -1))
        return gated(self.weights, f"{role}.gate", table)

    def layer(self, i: int, x: Tensor, given: Mapping[str, Tensor], trace: Trace) -> Tensor:
        """The hidden states that leave a layer."""
        return self.block(self.weights.within(f"layers.{i}."), x, given["bias"], None, partial(trace.point, i))

    def between(self, x: Tensor, given: Mapping[str, Tensor]) -> Tensor:
        """What the layers with gates read of the hidden states that the others leave."""
        x = self.norm(self.weights, "norm_encoder", x).unflatten(1, (self.tiles, -1))
        return (x + self._tiles("tiles_after", given["shape"])).flatten(1, 2)

    def projected(self, x: Tensor, kept: Tensor) -> Tensor:
        """What the text's layers read, ``[b, tiles * positions, width]``: nothing of what fills up a tile."""
        import torch

        both = torch.cat((x, kept.flatten(2)), -1).unflatten(1, (self.tiles, -1))[:, :, : self.positions]
        return self.weights.linear("projector", both).flatten(1, 2)

    def wrong(self) -> dict[str, dict[str, Any]]:
        """Changes of the yaml, by the fault that they are."""
        wrong: dict[str, dict[str, Any]] = {
            "wrong activation": {"nonlinearity": NEIGHBOUR.get(self.nonlinearity, "relu")},
            "wrong norm epsilon": {"layer_norm_epsilon": max(1e-4, 100 * self.eps)},
        }
        if self.heads % 2 == 0:
            wrong["wrong head count"] = {"num_heads": self.heads // 2}
        return wrong


def _hiding(hidden: Tensor) -> Tensor:
    """-inf where something is hidden, 0 elsewhere."""
    import torch

    return torch.zeros(hidden.shape).masked_fill(hidden, -torch.inf)
