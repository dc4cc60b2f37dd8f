"""hf/llava <-> cerebras/llava: CLIP's vision tower, a projector, and LLaMA.

Facts: ModelZoo release 2.10.0, ``tools/checkpoint_converters/llava.py`` (rules of cs-2.2 ... cs-2.9),
``models/multimodal/llava/modeling_llava.py``; haotian-liu/LLaVA 1.5, ``llava/model``: the fields ``mm_*`` of its
config, and a projector that is a sequence of linear layers with an activation after each but the last.
"""

from __future__ import annotations

import re
from collections import abc
from math import isqrt
from typing import Any

from msgspec.structs import replace

from convkit.config import Answer, ConfigError, ConfigTable, Constant, Coupled, Field, Name, Row, Written
from convkit.config.values import shown
from convkit.mapping import AnyRule, Component, Layout, LeftBehind, Mapping, Refused, Rule, Variant, pack
from convkit.mapping.layout import Lacking
from convkit.mappings.cerebras import clip_vit, llama
from convkit.mappings.cerebras.classes import RELEASES
from convkit.mappings.cerebras.classes.llava import LLAVA
from convkit.mappings.cerebras.common import MODEL_AT, NOT_THE_MODEL, OPTIMIZER
from convkit.mappings.cerebras.decoder import output_head
from convkit.mappings.cerebras.hf_classes.llava import CLIP_TOWER_CONFIG, LLAVA_CONFIG
from convkit.mappings.cerebras.tower import tower

Values = dict[str, Any]
IMAGE, TEXT = "image_model", "text_model"

#: other models of images and text have it elsewhere
_PROJECTOR = {"model.projector.image_model.name": ("FeedForwardNetwork", "MLP")}

#: the kind of projector: linear layers, with an activation after each but the last
_KIND, _USUAL = re.compile(r"mlp([1-9][0-9]{0,3})x_gelu"), "mlp2x_gelu"
#: the word embeddings, below the base model
_WORDS = "embed_tokens.weight"


def lacking(config: abc.Mapping[str, Any], leaves: abc.Mapping[str, Any]) -> Lacking:
    """The projector, where a checkpoint has no tensor of one: as a linear layer is before it is trained."""
    prefix = next((one for one in ("model.", "") if f"{TEXT}.{one}{_WORDS}" in leaves), None)
    class_token = next((key for key in leaves if key.endswith("embeddings.class_embedding")), None)
    text = config.get(TEXT)
    kind = _KIND.fullmatch(str(text.get("mm_projector_type", _USUAL))) if isinstance(text, dict) else None
    if prefix is None or class_token is None or kind is None:
        return {}
    at, words = f"{TEXT}.{prefix}mm_projector.", leaves[f"{TEXT}.{prefix}{_WORDS}"]
    if any(key.startswith(at) for key in leaves):
        return {}
    found: Lacking = {}
    for layer in range(int(kind[1])):
        inputs = words.shape[1] if layer else leaves[class_token].shape[0]
        for end, shape in (("weight", (words.shape[1], inputs)), ("bias", (words.shape[1],))):
            found[f"{at}{2 * layer}.{end}"] = shape, words.dtype, inputs**-0.5
    return found


HF = Layout(
    "hf/llava",
    "LLaVA 1.5 in the folders image_model (CLIP) and text_model (LlavaLlamaForCausalLM)",
    "folders",
    "config.json",
    signature=(
        {"text_model.model_type": ("llava", "llava_llama", "llama"), "image_model.model_type": "clip_vision_model"},
        {"text_model.model_type": ("llava", "llava_llama", "llama"), "image_model.model_type": "clip"},
    ),
    lacking="convkit.mappings.cerebras.llava:lacking",
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


def projector(at: str) -> tuple[Row, ...]:
    """The rows of the projector, which is ModelZoo's section ``at``. They declare ``projector``, its number of layers.

    Its input is as wide as the vision tower, and all layers as the language model.
    """
    kind, hidden = f"{TEXT}.mm_projector_type", f"{TEXT}.mm_hidden_size"
    parts = tuple(f"{at}.{part}" for part in ("name", "input_unit", "layers_units", "layers_activation", "use_bias"))

    def wanted(depth: int, names: Values) -> Values:
        image, text = names[f"{IMAGE}.hidden"], names[f"{TEXT}.hidden"]
        values = ("FeedForwardNetwork", image, [text] * depth, ["gelu"] * (depth - 1) + [None], True)
        return dict(zip(parts, values, strict=True))

    def to_cerebras(values: Values, names: Values) -> Answer:
        image, said = names[f"{IMAGE}.hidden"], values.get(kind, _USUAL)
        if (found := _KIND.fullmatch(said)) is None:
            raise ConfigError(f"{shown(said)} has no counterpart", key=kind, remedy="ModelZoo's are mlp1x_gelu, ...")
        if (size := values.get(hidden, image)) not in (image, None):
            remedy = (
                f"it is the hidden_size of {IMAGE}: correct the config, or take the vision tower that belongs to it"
            )
            raise ConfigError(f"is {shown(size)}, but the vision tower has {image}", key=hidden, remedy=remedy)
        depth, usual = int(found[1]), {kind: _USUAL, hidden: image}
        defaults = {field: value for field, value in usual.items() if field not in values}
        return Answer(wanted(depth, names), {"projector": depth}, defaults=defaults)

    def to_hf(values: Values, names: Values) -> Answer:
        if not values:
            raise ConfigError("is missing", key=at, remedy="transformers' LLaVA has a projector: add it")
        usual = {parts[0]: "FeedForwardNetwork", parts[4]: False}
        layers = values.get(parts[3]) or values.get(parts[2])
        depth = len(layers) if isinstance(layers, list) and layers else 1
        for key, value in wanted(depth, names).items():
            if (has := values.get(key, usual.get(key))) not in (value, "MLP"):
                remedy = f"transformers' LLaVA has {shown(value)} there, or isn't of these parts"
                problem = f"{shown(has)} has no counterpart" if key == parts[3] else f"is {shown(has)}"
                raise ConfigError(problem, key=key, remedy=remedy)
        return Answer({kind: f"mlp{depth}x_gelu", hidden: names[f"{IMAGE}.hidden"]}, {"projector": depth})

    return (Coupled((kind, hidden), parts, to_cerebras, to_hf),)


def feature_layer(layer: str, before: str = "") -> Coupled:
    """The row of the layer whose output are the features. ModelZoo counts layers, transformers what comes before the
    first one, too. ``before`` is ModelZoo's field before release 2.4.
    """
    key = f"{TEXT}.mm_vision_select_layer"
    fields = tuple(filter(None, (layer, before)))

    def to_cerebras(values: Values, names: Values) -> Answer:
        number, layers = values.get(key, -2), names[f"{IMAGE}.layers"]
        if type(number) is not int or not -layers <= number <= layers:
            raise ConfigError(f"is {shown(number)}", key=key, remedy=f"it names one of {layers} layers: 1, or -1, ...")
        if number == 0:
            raise ConfigError("is 0: what enters the first layer", key=key, remedy="ModelZoo takes a layer's output")
        there = before if before and names["release"] and names["release"] < (2, 4) else layer
        return Answer({there: number - 1 if number > 0 else number}, defaults={} if key in values else {key: -2})

    def to_hf(values: Values, names: Values) -> Answer:
        stated, layers = next(iter(values.items()), None), names[f"{IMAGE}.layers"]
        if before and (stated is None or stated[1] is None):
            remedy = "add it: -1 for the last layer; without it, ModelZoo takes what a norm makes of that"
            raise ConfigError("is missing", key=layer, remedy=remedy)
        field, number = stated or (layer, -1)
        if type(number) is not int or not -layers <= number < layers:
            raise ConfigError(
                f"is {shown(number)}", key=field, remedy=f"it names one of {layers} layers: 0, or -1, ..."
            )
        return Answer({key: number + 1 if number >= 0 else number}, defaults={} if stated else {layer: -1})

    return Coupled((key,), fields, to_cerebras, to_hf)


def feature_mode(mode: str) -> Field:
    """The row of whether the class token is a feature, too."""
    values = (("patch", "patch"), ("cls_patch", "cls_patch"))
    return Field(f"{TEXT}.mm_vision_select_feature", mode, left_default="patch", values=values)


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
    remedy = "correct the config's projector, or take the checkpoint that belongs to it"
    reasons = {
        f"{IMAGE}.{{what:text_model|visual_projection|text_projection}}.{{rest:*}}": "the vision tower alone is used",
        f"{IMAGE}.logit_scale": "the vision tower alone is used",
        f"{TEXT}.{{={TEXT}.hf}}vision_tower.{{rest:*}}": f"the vision tower is that in {IMAGE}",
    }
    return (
        Rule(f"{here}{{2n}}.{{p:weight|bias}}", f"{there}.ffn.{{n}}.linear_layer.{{p}}", n="projector"),
        *(LeftBehind("left", key, reason) for key, reason in reasons.items()),
        Refused("left", f"{here}{{rest:*}}", "the config's mm_projector_type says another projector", remedy),
        Refused("right", f"{there}.{{rest:*}}", "the config's projector has fewer layers", remedy),
    )


def packed(cs: Layout, part: Component, table: ConfigTable, *, image: str, there: str) -> Mapping:
    """The mapping of a vision tower, a projector and a language model.

    Args:
        cs: ModelZoo's layout.
        part: the vision tower.
        table: the config beside the two.
        image: the vision tower's prefix in ModelZoo's keys.
        there: the projector's module.
    """
    whole = Variant("cs", "right", ("model.", "model.model.", ""), "{=cs}text_model.embedding_layer.{rest:*}")
    rules = (*projected(f"{{=cs}}{there}"), NOT_THE_MODEL)
    parts = {IMAGE: replace(part, right=image), TEXT: TEXT_PART}
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
            feature_mode("image_feature_select_mode"),
            *ROWS,
            Written("right", "image_start_idx", 1),
        ),
        right=LLAVA,
        right_at=MODEL_AT,
    ),
    image="image_model.",
    there="projector_image_model",
)
