"""LLaVA in folders: CLIPVisionModel and LlamaForCausalLM of ``transformers``, joined by the library's LlavaModel.

That takes the features of a layer, without the class token if so asked, lets a projector make them as wide as the text,
and puts them into the places of a token that stands for the image. The library's projector has two linear layers; where
a checkpoint has more or fewer, one as LLaVA's authors build it takes its place.

Sources: transformers 5.23, ``models/llava/modeling_llava.py``; haotian-liu/LLaVA 1.5, ``llava/model``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from convkit.oracles.hf.loading import Source, quiet, reading
from convkit.oracles.hf.stages import Parts, instead
from convkit.oracles.image_and_text import ImageAndText, Place, with_places
from convkit.oracles.oracle import State, Trace

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

    from convkit.oracles.oracle import Oracle
    from convkit.oracles.tensors import Within

_IMAGE, _TEXT = "image_model", "text_model"
#: what isn't a part of the tower in a whole CLIP
_REST_OF_CLIP = ("text_model.", "visual_projection.", "text_projection.", "logit_scale")
_KIND = re.compile(r"mlp(\d+)x_(\w+)")
_STRATEGIES = {"patch": "default", "cls_patch": "full"}
#: the library's projector, by its layers
_USUAL = ("linear_1", "linear_2")


class HfLlava(ImageAndText):
    """The parts, each by its own class, and LlavaModel for what is between them."""

    layout = "hf/llava"
    packages = ("transformers",)
    runs = "CLIPVisionModel and LlamaForCausalLM are run, and LlavaModel for what joins them"

    def parts_at(self) -> dict[str, Place]:
        """See :meth:`ImageAndText.parts_at`; a language model without a head has no prefix."""
        image = f"{_IMAGE}.vision_config" if "vision_config" in self.config.get(_IMAGE, {}) else _IMAGE
        self.base = next((one for one in ("model.", "") if f"{_TEXT}.{one}embed_tokens.weight" in self.tensors), "")
        joined = tuple(f"{self.base}{name}." for name in ("mm_projector", "vision_tower"))
        return {"image": Place(image, f"{_IMAGE}.", _REST_OF_CLIP), "text": Place(_TEXT, f"{_TEXT}.", joined)}

    def oracle(self, name: str, fields: dict[str, Any], tensors: Within) -> Oracle:
        """See :meth:`ImageAndText.oracle`."""
        from convkit.oracles import get_oracle

        layout = "hf/clip_vision_model" if name == "image" else "hf/llama"
        own = {key: value for key, value in fields.items() if not key.startswith("mm_")}
        return get_oracle(layout)({**own, "model_type": layout.partition("/")[2]}, tensors, self.path)

    def join(self) -> None:
        """See :meth:`ImageAndText.join`."""
        said = self._section(_TEXT)
        stated, layers = said.get("mm_vision_select_layer", -2), self.depth["encoder"]
        if type(stated) is not int or not -layers <= stated <= layers or stated == 0:
            raise self.strange("mm_vision_select_layer", stated, f"the number of one of {layers} layers, from 1 on")
        self.feature = self.number_of_layer("mm_vision_select_layer", stated - 1 if stated > 0 else stated)
        mode = said.get("mm_vision_select_feature", "patch")
        if mode not in _STRATEGIES:
            raise self.strange("mm_vision_select_feature", mode, "patch or cls_patch")
        self.whole = mode == "cls_patch"
        kind = _KIND.fullmatch(str(said.get("mm_projector_type", "mlp2x_gelu")))
        if kind is None:
            raise self.strange("mm_projector_type", said.get("mm_projector_type"), "of the kind of mlp2x_gelu")
        self.projector = [f"{_TEXT}.{self.base}mm_projector.{2 * n}" for n in range(int(kind[1]))]
        self._build(stated, _STRATEGIES[mode], kind[2])
        if len(self.projector) != len(_USUAL):
            count = len(self.projector)
            self.runs += f", with a projector of {count} layer{'s' * (count != 1)} as LLaVA's authors build it"

    @property
    def _image(self) -> Any:
        return self.image

    @property
    def _text(self) -> Any:
        return self.text

    def _build(self, layer: int, strategy: str, act: str) -> None:
        """The library's model around the parts."""
        import torch
        from transformers import LlavaConfig, LlavaModel

        image, text = self._image.parsed, self._text.parsed
        with quiet(), torch.device("meta"):
            joined = {"image_token_index": text.vocab_size, "projector_hidden_act": act, "vision_feature_layer": layer}
            joined["vision_feature_select_strategy"] = strategy
            parts = {"vision_config": image.to_dict(), "text_config": text.to_dict()}
            self.model: Any = LlavaModel(LlavaConfig(**parts, **joined))
            linear = [getattr(self.model.multi_modal_projector, name) for name in _USUAL]
            if len(self.projector) != len(linear):
                linear = self._own_projector(act)
        self.model.vision_tower, self.model.language_model = self._image.model, self._text.base
        self.model.eval().requires_grad_(False)
        self.linear = linear
        self.sources = {
            parameter: Source(frozenset([key := f"{at}.{end}"]), itemgetter(key))
            for at, module in zip(self.projector, linear, strict=True)
            for end, parameter in module.named_parameters()
        }

    def _own_projector(self, act: str) -> list[Module]:
        """Put a projector of another depth into the model; its linear layers."""
        from torch import nn
        from transformers.activations import ACT2FN

        width = self.width
        linear: list[Module] = [nn.Linear(width["image"], width["text"])]
        linear += [nn.Linear(width["text"], width["text"]) for _ in self.projector[1:]]
        between = [module for one in linear[1:] for module in (ACT2FN[act], one)]
        self.model.multi_modal_projector = nn.Sequential(linear[0], *between)
        return linear

    def projected(self, kept: Tensor, given: Mapping[str, Any]) -> Tensor:
        """See :meth:`ImageAndText.projected`."""
        import torch

        with self._image.parts.idle({self.feature: kept}), reading(self.linear, self.sources, self.tensors):
            features = self.model.get_image_features(pixel_values=given["pixels"]).pooler_output
        return torch.stack(list(features))

    def embedded(self, encoded: Tensor | None, given: Mapping[str, Any]) -> Tensor:
        """See :meth:`ImageAndText.embedded`."""
        if encoded is None:
            alone = given["text"](given["ids"].shape[1])
            return self.text.step("embedding", State({}, alone), Trace()).flow["hidden"]
        text = self._text
        ids = with_places(given["ids"], encoded.shape[1], self.model.config.image_token_index)
        inputs = {"input_ids": ids, "pixel_values": given["pixels"]}
        projected = {self.model.multi_modal_projector: lambda *_: encoded}
        with (
            self._image.parts.idle({}),
            instead(projected),
            self._known_ids(),
            reading(text._modules("embedding"), text.sources, text.tensors),
        ):
            return Parts(self.model, [], text.parts.layers).entering(inputs)

    @contextmanager
    def _known_ids(self) -> Iterator[None]:
        """The token that stands for the image has no row in the table: it reads another one for a while."""
        vocabulary = self.model.config.image_token_index
        table = self.model.get_input_embeddings()

        def known(module: Module, args: tuple[Tensor]) -> tuple[Tensor]:
            ids = args[0]
            return (ids.where(ids < vocabulary, ids[:, :1]),)

        hook = table.register_forward_pre_hook(known)
        try:
            yield
        finally:
            hook.remove()

    def with_feature(self, layer: int) -> dict[str, Any]:
        """See :meth:`ImageAndText.with_feature`; the library counts what enters the first layer, too."""
        return self.with_field(f"{_TEXT}.mm_vision_select_layer", layer + 1)

    def with_class_token(self, whole: bool) -> dict[str, Any]:
        """See :meth:`ImageAndText.with_class_token`."""
        return self.with_field(f"{_TEXT}.mm_vision_select_feature", "cls_patch" if whole else "patch")
