"""Llama 3.2 Vision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from convkit.errors import UsageError
from convkit.generate.families.family import Family
from convkit.generate.sizes import at_least_one, grouped_and_rotated

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

_VISION_HEADS = 4


@dataclass(frozen=True, kw_only=True)
class Mllama(Family):
    """A text model whose second layer attends to an image of up to two tiles, and the image's model."""

    models: ClassVar[Mapping[str, str]] = {"lm": "MllamaForConditionalGeneration"}

    head: Literal["lm"] = "lm"
    kv_heads: int = 2
    rope_theta: float = 5000.0
    #: size of the image model's hidden states
    vision: int = 28
    #: height and width of a tile, and of a patch of it
    image: int = 33
    patch: int = 11
    channels: int = 7

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least_one(self, "kv_heads", "vision", "image", "patch", "channels")
        grouped_and_rotated(self.hidden, self.heads, self.kv_heads)
        if self.image % self.patch:
            raise UsageError(f"image {self.image} isn't a multiple of patch {self.patch}")
        if self.vision % _VISION_HEADS:
            raise UsageError(f"vision {self.vision} isn't a multiple of {_VISION_HEADS}, the image model's heads")

    def config(self) -> PreTrainedConfig:
        """See :meth:`AnyFamily.config`."""
        from transformers import MllamaConfig

        text = {
            **self.sizes(),
            "num_key_value_heads": self.kv_heads,
            "rms_norm_eps": 4e-5,
            "cross_attention_layers": [1],
            "rope_parameters": {"rope_type": "default", "rope_theta": self.rope_theta},
            "bos_token_id": 1,
            "eos_token_id": 2,
            "pad_token_id": 0,
        }
        vision = {
            "hidden_size": self.vision,
            "num_hidden_layers": 2,
            "num_global_layers": 1,
            "attention_heads": _VISION_HEADS,
            "intermediate_size": self.intermediate,
            "image_size": self.image,
            "patch_size": self.patch,
            "num_channels": self.channels,
            "norm_eps": 3e-5,
            "max_num_tiles": 2,
            "supported_aspect_ratios": [[1, 1], [1, 2], [2, 1]],
            "intermediate_layers_indices": [0],
            "vision_output_dim": 2 * self.vision,
        }
        return MllamaConfig(text_config=text, vision_config=vision, image_token_index=self.vocab)
