"""Vision transformers: ViT, and the vision tower of CLIP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from convkit.errors import UsageError
from convkit.generate.families.family import AnyFamily
from convkit.generate.sizes import at_least_one

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


@dataclass(frozen=True, kw_only=True)
class _Vision(AnyFamily):
    #: height of an image
    image: int = 33
    #: height and width of a patch
    patch: int = 11
    channels: int = 7

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least_one(self, "image", "patch", "channels")
        self._check_cut("image")

    def _check_cut(self, side: str) -> None:
        if getattr(self, side) % self.patch:
            raise UsageError(f"{side} {getattr(self, side)} isn't a multiple of patch {self.patch}")

    def _fields(self) -> dict[str, Any]:
        return {
            **self.sizes(),
            "patch_size": self.patch,
            "num_channels": self.channels,
        }


@dataclass(frozen=True, kw_only=True)
class Vit(_Vision):
    """A ViT with a classifier, or a base model with a pooler."""

    models: ClassVar[Mapping[str, str]] = {"classification": "ViTForImageClassification", "none": "ViTModel"}

    head: Literal["classification", "none"] = "classification"
    #: width of an image
    width: int = 44
    #: number of classes
    labels: int = 13
    activation: Literal["gelu", "gelu_new", "relu", "silu"] = "gelu"
    qkv_bias: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least_one(self, "width", "labels")
        self._check_cut("width")

    def config(self) -> PreTrainedConfig:
        """See :meth:`AnyFamily.config`."""
        from transformers import ViTConfig

        config = ViTConfig(
            image_size=self.image if self.image == self.width else [self.image, self.width],
            layer_norm_eps=7e-5,
            hidden_act=self.activation,
            qkv_bias=self.qkv_bias,
            **self._fields(),
        )
        config.num_labels = self.labels
        return config


@dataclass(frozen=True, kw_only=True)
class ClipVit(_Vision):
    """The vision tower of a CLIP, with its projection or without."""

    models: ClassVar[Mapping[str, str]] = {"projection": "CLIPVisionModelWithProjection", "none": "CLIPVisionModel"}

    head: Literal["projection", "none"] = "projection"
    #: size of the projection
    projection: int = 13
    activation: Literal["quick_gelu", "gelu"] = "quick_gelu"

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least_one(self, "projection")

    def config(self) -> PreTrainedConfig:
        """See :meth:`AnyFamily.config`."""
        from transformers import CLIPVisionConfig

        fields = self._fields()
        return CLIPVisionConfig(
            image_size=self.image, hidden_act=self.activation, projection_dim=self.projection, **fields
        )
