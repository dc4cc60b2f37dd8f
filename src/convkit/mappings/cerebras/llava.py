"""hf/llava <-> cerebras/llava: CLIP's vision tower, a projector, and LLaMA.

Facts: ModelZoo release 2.10.0, ``tools/checkpoint_converters/llava.py`` (rules of cs-2.2 ... cs-2.9),
``models/multimodal/llava/modeling_llava.py``; haotian-liu/LLaVA 1.5, ``llava/model``: the fields ``mm_*`` of its
config, and a projector that is a sequence of linear layers with an activation after each but the last.
"""

from __future__ import annotations

from dataclasses import replace
from math import isqrt
from typing import Any

from convkit.config import Answer, ConfigError, ConfigTable, Constant, Coupled, Field, Name, Row, Written
from convkit.config.values import shown
from convkit.mapping import AnyRule, Component, Layout, LeftBehind, Mapping, Refused, Rule, Variant, pack
from convkit.mappings.cerebras import clip_vit, llama
from convkit.mappings.cerebras.classes import RELEASES
from convkit.mappings.cerebras.classes.llava import LLAVA
from convkit.mappings.cerebras.common import MODEL_AT, NOT_THE_MODEL, OPTIMIZER
from convkit.mappings.cerebras.decoder import output_head
from convkit.mappings.cerebras.hf_classes.llava import CLIP_TOWER_CONFIG, LLAVA_CONFIG
from convkit.mappings.cerebras.tower import tower

Values = dict[str, Any]
IMAGE, TEXT = "image_model", "text_model"
#: linear layers that a projector has at most
DEEPEST = 8

#: other models of images and text have it elsewhere
_PROJECTOR = {"model.projector.image_model.name": ("FeedForwardNetwork", "MLP")}

HF = Layout(
    "hf/llava",
    "LLaVA 1.5 in the folders image_model (CLIP) and text_model (LlavaLlamaForCausalLM)",
    "folders",
    "config.json",
    signature=(
        {"text_model.model_type": ("llava", "llava_llama", "llama"), "image_model.model_type": "clip_vision_model"},
        {"text_model.model_type": ("llava", "llava_llama", "llama"), "image_model.model_type": "clip"},
    ),
)
CS = Layout(
    "cerebras/llava",
    "ModelZoo LlavaModel, releases 2.2 ... 2.10",
    "cerebras-h5",
    "params.yaml",
    releases=RELEASES[1:],
    config_at=MODEL_AT,
    signature=({"model.name": ("llava", None), "model.image_model.name": ("ViTModel", "vit"), **_PROJECTOR},),
)

# --- the projector, and which of the tower's features it reads ---------------------------------------------

#: what follows each linear layer, by the kind that transformers' config says
_KINDS = tuple((f"mlp{depth}x_gelu", ["gelu"] * (depth - 1) + [None]) for depth in range(1, DEEPEST + 1))


def projector(at: str) -> tuple[Row, ...]:
    """The rows of the projector, which is ModelZoo's section ``at``. They declare ``projector``, its number of layers.

    Its input is as wide as the vision tower, and all layers as the language model.
    """
    hidden = f"{TEXT}.mm_hidden_size"
    parts = tuple(f"{at}.{part}" for part in ("name", "input_unit", "layers_units", "use_bias"))

    def wanted(names: Values) -> Values:
        image, text = names[f"{IMAGE}.hidden"], names[f"{TEXT}.hidden"]
        return dict(zip(parts, ("FeedForwardNetwork", image, [text] * names["projector"], True), strict=True))

    def to_cerebras(values: Values, names: Values) -> Answer:
        image = names[f"{IMAGE}.hidden"]
        if (size := values.get(hidden, image)) != image:
            remedy = (
                f"it is the hidden_size of {IMAGE}: correct the config, or take the vision tower that belongs to it"
            )
            raise ConfigError(f"is {shown(size)}, but the vision tower has {image}", key=hidden, remedy=remedy)
        return Answer(wanted(names), defaults={} if hidden in values else {hidden: image})

    def to_hf(values: Values, names: Values) -> Answer:
        usual = {f"{at}.name": "FeedForwardNetwork", f"{at}.use_bias": False}
        for key, value in wanted(names).items():
            if (has := values.get(key, usual.get(key))) not in (value, "MLP"):
                remedy = f"transformers' LLaVA has {shown(value)} there, or isn't of these parts"
                raise ConfigError(f"is {shown(has)}", key=key, remedy=remedy)
        return Answer({hidden: names[f"{IMAGE}.hidden"]})

    kind = f"{TEXT}.mm_projector_type"
    return (
        Field(kind, f"{at}.layers_activation", "projector_type", "mlp2x_gelu", values=_KINDS),
        Name("projector", lambda names: 1 + [one for one, _ in _KINDS].index(names["projector_type"])),
        Coupled((hidden,), parts, to_cerebras, to_hf),
    )


def feature_layer(layer: str) -> Coupled:
    """The row of the layer whose output are the features. ModelZoo counts layers, transformers what comes before the
    first one, too.
    """
    key = f"{TEXT}.mm_vision_select_layer"

    def to_cerebras(values: Values, names: Values) -> Answer:
        number, layers = values.get(key, -2), names[f"{IMAGE}.layers"]
        if type(number) is not int or not -layers <= number <= layers:
            raise ConfigError(f"is {shown(number)}", key=key, remedy=f"it names one of {layers} layers: 1, or -1, ...")
        if number == 0:
            raise ConfigError("is 0: what enters the first layer", key=key, remedy="ModelZoo takes a layer's output")
        return Answer({layer: number - 1 if number > 0 else number}, defaults={} if key in values else {key: -2})

    def to_hf(values: Values, names: Values) -> Answer:
        number, layers = values.get(layer, -1), names[f"{IMAGE}.layers"]
        if type(number) is not int or not -layers <= number < layers:
            raise ConfigError(
                f"is {shown(number)}", key=layer, remedy=f"it names one of {layers} layers: 0, or -1, ..."
            )
        return Answer({key: number + 1 if number >= 0 else number}, defaults={} if layer in values else {layer: -1})

    return Coupled((key,), (layer,), to_cerebras, to_hf)


# --- what is trained ---------------------------------------------------------------------------------------

_TUNED = f"{TEXT}.tune_mm_mlp_adapter"
_FROZEN = {False: ["^image_model"], True: ["^image_model", "^text_model"]}


def _freeze(values: Values, names: Values) -> Answer:
    return Answer({"freeze": _FROZEN[bool(values.get(_TUNED))]})


def _tune(values: Values, names: Values) -> Answer:
    patterns = values.get("freeze") or []
    tuned = any(TEXT in pattern for pattern in patterns) and not any("projector" in pattern for pattern in patterns)
    said = f"freeze is {shown(patterns)}: LLaVA's config says only whether the language model is trained"
    return Answer({_TUNED: tuned}, warnings=() if patterns in _FROZEN.values() else (said,))


# --- the parts ---------------------------------------------------------------------------------------------


def preprocessor(names: Values) -> Values:
    """What CLIP does with an image before its model, for images of this model's size."""
    side = isqrt(names[f"{IMAGE}.patches"]) * names[f"{IMAGE}.patch_height"]
    return {
        "crop_size": {"height": side, "width": side},
        "do_center_crop": True,
        "do_normalize": True,
        "do_resize": True,
        "feature_extractor_type": "CLIPFeatureExtractor",
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "resample": 3,
        "size": side,
    }


#: what LLaVA's config says beside that, and nothing of ModelZoo's
_SAID = {
    "mm_vision_tower": IMAGE,
    "image_aspect_ratio": "pad",
    "freeze_mm_mlp_adapter": False,
    "freeze_mm_vision_resampler": False,
    "tune_mm_vision_resampler": False,
    "unfreeze_mm_vision_tower": False,
    "use_cache": True,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
ROWS: tuple[Row, ...] = (
    Name("headless", lambda names: names[f"{TEXT}.headless"]),
    Constant("left", f"{TEXT}.mm_use_im_start_end", False, default=False),
    Constant("left", f"{TEXT}.mm_use_im_patch_token", False, default=False),
    Coupled((_TUNED,), ("freeze",), _freeze, _tune),
    *(Written("left", f"{TEXT}.{field}", value) for field, value in _SAID.items()),
    Written("left", f"preprocessor_config.{IMAGE}", preprocessor),
    Written("right", "loss_scaling", "num_tokens"),
    Written("right", "loss_weight", 1.0),
)
IMAGE_PART = Component(
    tower(clip_vit.MAPPING, "CLIPVisionModel", CLIP_TOWER_CONFIG),
    left_section=(IMAGE, f"{IMAGE}.vision_config"),
    rows=(Constant("right", "name", "ViTModel", also=("vit",)),),
)
TEXT_PART = Component(
    replace(llama.MAPPING, config=replace(llama.MAPPING.config, left=LLAVA_CONFIG)),
    choices={"cs": ""},
    rows=(
        Constant("left", "model_type", "llava", also=("llama", "llava_llama")),
        Constant("right", "name", "LlamaModel", also=("llama",)),
        *output_head("LlavaLlamaModel", "LlavaLlamaForCausalLM"),
    ),
)


def projected(there: str) -> tuple[AnyRule, ...]:
    """The rules of the projector, whose layers lie below ``there`` on ModelZoo's side; and of what has no place in it.

    In a sequence of linear layers and activations, every second number is an activation, which has no tensors.
    """
    here = f"{TEXT}.{{={TEXT}.hf}}mm_projector."
    layers = range(DEEPEST)
    remedy = "correct the config's projector, or take the checkpoint that belongs to it"
    reasons = {
        f"{IMAGE}.{{what:text_model|visual_projection|text_projection}}.{{rest:*}}": "the vision tower alone is used",
        f"{IMAGE}.logit_scale": "the vision tower alone is used",
        f"{TEXT}.{{={TEXT}.hf}}vision_tower.{{rest:*}}": f"the vision tower is that in {IMAGE}",
    }
    return (
        *(
            Rule(f"{here}{2 * n}.{{p:weight|bias}}", f"{there}.ffn.{n}.linear_layer.{{p}}", when=f"projector>{n}")
            for n in layers
        ),
        *(LeftBehind("left", key, reason) for key, reason in reasons.items()),
        Refused("left", f"{here}{{rest:*}}", "the config's mm_projector_type says another projector", remedy),
        Refused("right", f"{there}.{{rest:*}}", "the config's projector has fewer layers", remedy),
    )


def packed(cs: Layout, image: Component, table: ConfigTable, there: str) -> Mapping:
    """The mapping of a vision tower, a projector and a language model.

    Args:
        cs: ModelZoo's layout.
        image: the vision tower.
        table: the config beside the two.
        there: the projector's module.
    """
    whole = Variant("cs", "right", ("model.", "model.model.", ""), "{=cs}text_model.embedding_layer.{rest:*}")
    rules = (*projected(f"{{=cs}}{there}"), NOT_THE_MODEL)
    parts = {IMAGE: image, TEXT: TEXT_PART}
    mapping = pack(HF, cs, parts, table, under=("", "{=cs}"), rules=rules, variants=(whole,))
    return replace(mapping, parts=(*mapping.parts, OPTIMIZER))


MAPPING = packed(
    CS,
    IMAGE_PART,
    ConfigTable(
        (
            Constant("right", "name", "llava"),
            Constant("right", f"{TEXT}.name", "LlamaModel", also=("llama",)),
            *projector("projector.image_model"),
            feature_layer("image_feature_select_layer_idx"),
            Field(
                f"{TEXT}.mm_vision_select_feature",
                "image_feature_select_mode",
                left_default="patch",
                values=(("patch", "patch"), ("cls_patch", "cls_patch")),
            ),
            *ROWS,
            Written("right", "image_start_idx", 1),
        ),
        right=LLAVA,
        right_at=MODEL_AT,
    ),
    "projector_image_model",
)
