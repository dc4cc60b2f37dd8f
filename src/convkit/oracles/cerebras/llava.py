"""ModelZoo's models of text and an image's features, of one vision tower: LLaVA, and the model of several towers.

Source: Cerebras ModelZoo 2.10.0, ``models/multimodal/{llava/modeling_llava,multimodal_simple/modeling_mmsimple}.py``,
``layers/TransformerEncoder.py`` (layers are counted from 0, and no norm follows the one whose output is taken).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from convkit.oracles.blocks.weights import Weights
from convkit.oracles.cerebras.decoder import CerebrasDecoder
from convkit.oracles.cerebras.model import NEIGHBOUR, WRAPPERS, CerebrasOracle, activation, find_prefix
from convkit.oracles.cerebras.vision import CerebrasTower
from convkit.oracles.image_and_text import START, ImageAndText, Place
from convkit.oracles.opening import value_at, with_value
from convkit.oracles.tensors import Within

if TYPE_CHECKING:
    from torch import Tensor

    from convkit.oracles.oracle import Oracle

_PROJECTOR_ACTIVATION = "wrong activation of the projector"
_MODES = {"patch": False, "cls_patch": True}


class CerebrasLlava(ImageAndText):
    """A vision transformer, a feed-forward network and a LLaMA."""

    layout = "cerebras/llava"
    runs = "the vision tower, the projector and the language model are run as ModelZoo's Llava joins them"
    #: prefixes of the tower and of the projector
    tower: ClassVar[str] = "image_model."
    projection: ClassVar[str] = "projector_image_model."
    #: fields and sections of the yaml
    layer_field: ClassVar[str] = "image_feature_select_layer_idx"
    mode_field: ClassVar[str] = "image_feature_select_mode"
    network: ClassVar[str] = "projector.image_model"
    #: which layer is meant where the yaml doesn't say it
    usual_layer: ClassVar[int | None] = -1

    @classmethod
    def section_of_image(cls, config: Mapping[str, Any]) -> str:
        """Where the yaml has the tower."""
        return "image_model"

    def parts_at(self) -> dict[str, Place]:
        """See :meth:`ImageAndText.parts_at`."""
        self.wrapper, _ = find_prefix(self.tensors, ["text_model."], wrappers=WRAPPERS)
        image = Place(self.section_of_image(self.config), f"{self.wrapper}{self.tower}")
        return {"image": image, "text": Place("text_model", f"{self.wrapper}text_model.")}

    def oracle(self, name: str, fields: dict[str, Any], tensors: Within) -> Oracle:
        """See :meth:`ImageAndText.oracle`."""
        return (CerebrasTower if name == "image" else CerebrasDecoder)(fields, tensors, self.path)

    def layer_path(self) -> str:
        """Where the yaml says which layer gives the features."""
        return self.layer_field

    def join(self) -> None:
        """See :meth:`ImageAndText.join`."""
        stated = value_at(self.config, self.layer_path())
        self.feature = self.number_of_layer(self.layer_path(), self.usual_layer if stated is None else stated)
        mode = value_at(self.config, self.mode_field)
        if mode not in (None, *_MODES):
            raise self.strange(self.mode_field, mode, "patch or cls_patch")
        self.whole = _MODES[mode or "patch"]
        network = self._section(self.network)
        units, acts = network.get("layers_units"), network.get("layers_activation")
        if not isinstance(units, list) or not units:
            raise self.strange(f"{self.network}.layers_units", units, "a list of sizes")
        self.acts: list[str | None] = acts if isinstance(acts, list) else [None] * len(units)
        if len(self.acts) != len(units):
            raise self.strange(f"{self.network}.layers_activation", acts, f"a list of {len(units)}")
        if network.get("use_bias") is not True:
            raise self.strange(f"{self.network}.use_bias", network.get("use_bias"), "true: no other projector is known")
        self.projector = [f"{self.wrapper}{self.projection}ffn.{n}.linear_layer" for n in range(len(units))]

    def projected(self, kept: Tensor, given: Mapping[str, Any]) -> Tensor:
        """See :meth:`ImageAndText.projected`."""
        x, weights = kept if self.whole else kept[:, 1:], Weights(self.part, self.roles.__contains__)
        for n, act in enumerate(self.acts):
            x = activation(act)(weights.linear(f"projector.{n}", x))
        return x

    def embedded(self, encoded: Tensor | None, given: Mapping[str, Any]) -> Tensor:
        """See :meth:`ImageAndText.embedded`."""
        import torch

        count = 0 if encoded is None else encoded.shape[1]
        text: Tensor = self.text.before(given["text"](given["ids"].shape[1] + count))  # type: ignore[attr-defined]
        if encoded is None:
            return text
        return torch.cat((text[:, :START], encoded, text[:, START + encoded.shape[1] :]), 1)

    def wrong_configs(self) -> dict[str, dict[str, Any]]:
        """See :meth:`Oracle.wrong_configs`."""
        others = [act and NEIGHBOUR.get(act, "relu") for act in self.acts]
        found = super().wrong_configs()
        if others != self.acts:
            found[_PROJECTOR_ACTIVATION] = self.with_field(f"{self.network}.layers_activation", others)
        return found

    def shown_in(self, fault: str) -> frozenset[str]:
        """See :meth:`Oracle.shown_in`."""
        if fault == _PROJECTOR_ACTIVATION:
            return frozenset({self.stage_of("projector")})
        return super().shown_in(fault)

    def with_feature(self, layer: int) -> dict[str, Any]:
        """See :meth:`ImageAndText.with_feature`."""
        return self.with_field(self.layer_path(), layer)

    def with_class_token(self, whole: bool) -> dict[str, Any]:
        """See :meth:`ImageAndText.with_class_token`."""
        return self.with_field(self.mode_field, "cls_patch" if whole else "patch")

    @classmethod
    def reconcile(cls, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> tuple[dict[str, Any], list[str]]:
        """See :meth:`CerebrasOracle.reconcile`, for each part."""
        corrected, notes = dict(config), []
        parts: dict[str, tuple[str, type[CerebrasOracle]]] = {
            cls.section_of_image(config): (cls.tower, CerebrasTower),
            "text_model": ("text_model.", CerebrasDecoder),
        }
        for path, (prefix, part) in parts.items():
            if isinstance(section := value_at(config, path), Mapping):
                own: dict[str, Any] = dict.fromkeys(key for key in tensors if prefix in key)
                fields, found = part.reconcile(section, own)
                corrected = with_value(corrected, path.split("."), fields)
                notes += [f"{path}.{note}" for note in found]
        return corrected, notes


class CerebrasMultimodalSimple(CerebrasLlava):
    """The model of several towers, of which it has one, and a projector behind all of them."""

    layout = "cerebras/multimodal_simple"
    runs = "the vision tower, the projector and the language model are run as ModelZoo's MultimodalSimple joins them"
    tower = "image_model.image_model_list.0.0."
    projection = "image_model.projection."
    mode_field = "image_model_list.image_feature_select_mode"
    network = "image_model_list.global_image_projection"
    #: what the tower's last norm leaves is meant then
    usual_layer = None

    @classmethod
    def section_of_image(cls, config: Mapping[str, Any]) -> str:
        """See :meth:`CerebrasLlava.section_of_image`: in a list of modules before release 2.4."""
        now, before = (f"image_model_list.image_models.0.{name}" for name in ("image_encoder", "image_model.0"))
        return before if isinstance(value_at(config, before), Mapping) else now

    def layer_path(self) -> str:
        """See :meth:`CerebrasLlava.layer_path`: a field of the tower."""
        return f"{self.section_of_image(self.config)}.image_layer_idx"
