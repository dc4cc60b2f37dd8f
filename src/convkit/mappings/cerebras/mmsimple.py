"""hf/llava <-> cerebras/multimodal_simple: the parts of LLaVA in ModelZoo's model of several vision towers, of which
it has one, and a projector behind all of them.

Facts: ModelZoo release 2.10.0, ``tools/checkpoint_converters/mm_simple.py`` (rules of cs-2.3 ... cs-2.9),
``models/multimodal/multimodal_simple/{model,modeling_mmsimple}.py``: the layer whose output is taken is a field of the
tower. In 2.3 a tower is in a list of modules.
"""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from convkit.config import Answer, ConfigError, ConfigTable, Constant, Coupled
from convkit.mapping import Layout
from convkit.mappings.cerebras import llava
from convkit.mappings.cerebras.classes import RELEASES
from convkit.mappings.cerebras.classes.llava import MULTIMODAL_SIMPLE
from convkit.mappings.cerebras.common import MODEL_AT
from convkit.mappings.cerebras.llava import TEXT, feature_layer, feature_mode, projector

Values = dict[str, Any]
_LIST = "image_model_list"
_MODELS = f"{_LIST}.image_models"
#: the section of the tower, since release 2.4 and before
_TOWER, _BEFORE = f"{_MODELS}.0.image_encoder", f"{_MODELS}.0.image_model.0"

CS = Layout(
    "cerebras/multimodal_simple",
    "ModelZoo MMSimpleModel of one vision tower, releases 2.3 ... 2.10",
    "cerebras-h5",
    "params.yaml",
    releases=RELEASES[2:],
    config_at=MODEL_AT,
    signature=(
        {"model.name": "multimodal_simple"},
        *({"model.name": None, f"model.{one}.name": ("ViTModel", "vit")} for one in (_BEFORE, _TOWER)),
    ),
    by_name=True,
)


#: what a second tower has, or a projection that the first one has alone
_MORE = (f"{_MODELS}.1", f"{_MODELS}.0.projection_layer", f"{_MODELS}.0.image_model.1")


def _one_tower(values: Values, names: Values) -> Answer:
    for key, value in values.items():
        if value is not None:
            remedy = "transformers' LLaVA has one vision tower, and one projector: global_image_projection"
            raise ConfigError("is there", key=key, remedy=remedy)
    return Answer()


MAPPING = llava.packed(
    CS,
    replace(llava.IMAGE_PART, right_section=_TOWER, right_before=((2, 4), _BEFORE)),
    ConfigTable(
        (
            Constant("right", "name", "multimodal_simple"),
            Constant("right", f"{TEXT}.name", "LlamaModel", also=("llama",)),
            *projector(f"{_LIST}.global_image_projection"),
            feature_layer(f"{_TOWER}.image_layer_idx", f"{_BEFORE}.image_layer_idx"),
            feature_mode(f"{_LIST}.image_feature_select_mode"),
            Coupled((), _MORE, lambda values, names: Answer(), _one_tower),
            *llava.ROWS,
        ),
        right=MULTIMODAL_SIMPLE,
        right_at=MODEL_AT,
    ),
    image="image_model.image_model_list.0.0.",
    there="image_model.projection",
)
