"""LLaVA, in folders: a CLIP's vision tower, and a LLaMA with the projector."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

from convkit.errors import UsageError
from convkit.generate.families.family import AnyFamily
from convkit.generate.families.llama_like import Llama
from convkit.generate.families.vision import ClipVit
from convkit.generate.sizes import at_least_one

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

_VISION_HEADS = 4


@dataclass(frozen=True, kw_only=True)
class LlavaText(Llama):
    """The language model, and the projector in it."""

    #: linear layers of the projector
    projector: int = 2
    #: size of the vision tower's hidden states
    vision: int = 28
    #: layers of the vision tower
    vision_layers: int = 3
    #: the layer whose output are the features: from 1 on, or from the last one backwards
    feature_layer: int = -2
    #: the features: those of patches, or also that of the class token
    features: Literal["patch", "cls_patch"] = "patch"

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least_one(self, "projector", "vision", "vision_layers")
        if self.feature_layer == 0 or abs(self.feature_layer) > self.vision_layers:
            raise UsageError(f"feature_layer {self.feature_layer} isn't one of {self.vision_layers} layers")

    def config(self) -> PreTrainedConfig:
        """See :meth:`AnyFamily.config`."""
        config = super().config()
        config.update(
            {
                "mm_hidden_size": self.vision,
                "mm_projector_type": f"mlp{self.projector}x_gelu",
                "mm_vision_select_layer": self.feature_layer,
                "mm_vision_select_feature": self.features,
                "mm_use_im_start_end": False,
                "mm_use_im_patch_token": False,
            }
        )
        return config

    def model(self) -> PreTrainedModel:
        """See :meth:`AnyFamily.model`: the class has the name of its authors'."""
        from torch import nn

        widths = [self.vision, *[self.hidden] * self.projector]
        linear = [nn.Linear(one, other) for one, other in pairwise(widths)]
        between = [module for one in linear[1:] for module in (nn.GELU(), one)]
        model = super().model()
        model.base_model.mm_projector = nn.Sequential(linear[0], *between)
        theirs = type(f"Llava{type(model).__name__}", (type(model),), {"__module__": type(model).__module__})
        model.__class__ = theirs
        return model


@dataclass(frozen=True, kw_only=True)
class Llava(LlavaText):
    """A language model whose first layer reads what a vision tower sees in an image."""

    #: height and width of an image, and of a patch of it
    image: int = 33
    patch: int = 11
    channels: int = 7

    def __post_init__(self) -> None:
        super().__post_init__()
        self.parts()  # which check their own sizes

    def parts(self) -> Mapping[str, AnyFamily]:
        """See :meth:`AnyFamily.parts`."""
        text = LlavaText(**{field.name: getattr(self, field.name) for field in fields(LlavaText)})
        shared: dict[str, Any] = {field.name: getattr(self, field.name) for field in _BOTH}
        tower = ClipVit(
            **shared,
            head="none",
            hidden=self.vision,
            heads=_VISION_HEADS,
            layers=self.vision_layers,
            intermediate=self.intermediate,
            image=self.image,
            patch=self.patch,
            channels=self.channels,
        )
        return {"image_model": tower, "text_model": text}


#: options of how a model is drawn and written
_BOTH = [field for field in fields(AnyFamily) if field.name in ("seed", "dtype", "format", "shard_size")]
