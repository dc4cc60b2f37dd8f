"""ModelZoo's class of LLaVA, and of the vision transformer in it, which has no classifier.

Facts: ``models/multimodal/llava/model.py`` (``LlavaModelConfig``), ``models/vision/vision_transformer/ViTModel.py``
(``ViTModelConfig``), ``layers/FeedForwardNetwork.py`` (``FeedForwardNetworkConfig``); 2.2 and 2.3: the ``config.py`` of
each. Both in one class: a module of LLaVA's is a section of its yaml.
"""

from __future__ import annotations

from convkit.config.classes import ABSENT, ClassField, ConfigClass, free
from convkit.config.values import ANYTHING, COUNT, FLAG, LIST, NUMBER, RATE, SECTION, TEXT, WHOLE
from convkit.mappings.cerebras.classes import BEFORE_2_1
from convkit.mappings.cerebras.classes.vit import VISION_TRANSFORMER

#: fields of the vision transformer that classifies images, and not of the one in a larger model
_CLASSIFIER = ("use_dinov2_classifier", "freeze", "compute_eval_metrics", "mixed_precision", "fp16_type")

VIT_MODEL = ConfigClass(
    "ViTModelConfig", "ModelZoo 2.10.0, models/vision/vision_transformer/ViTModel.py, ViTModelConfig",
    {name: field for name, field in VISION_TRANSFORMER.fields.items() if name not in _CLASSIFIER} | {
    "name": free(TEXT, ABSENT),
    "attention_dropout_rate": free(RATE, 0.0),
    # of a classifier: ModelZoo's converter writes them, and the class takes neither
    "num_classes": free(COUNT, ABSENT, until=BEFORE_2_1),
    "use_bias_in_output": free(FLAG, False, until=BEFORE_2_1),
})  # fmt: skip


def projector(at: str) -> dict[str, ClassField]:
    """The fields of a feed-forward network in the section ``at``."""
    return {
        f"{at}.name": ClassField(TEXT, "FeedForwardNetwork"),
        f"{at}.input_unit": ClassField(COUNT),
        f"{at}.layers_units": ClassField(LIST.of(COUNT)),
        f"{at}.layers_activation": ClassField(LIST.of(TEXT.or_null).or_null, None),
        f"{at}.layers_dropout_rates": free(LIST.of(RATE.or_null).or_null),
        f"{at}.use_bias": ClassField(FLAG, False),
        f"{at}.kernel_initializer": free(ANYTHING),
        f"{at}.bias_initializer": free(ANYTHING),
        f"{at}.output_layer_initializer": free(ANYTHING),
        f"{at}.device": free(TEXT.or_null),
        f"{at}.static_dual_expert": ClassField(FLAG, False),
        f"{at}.moe_params": ClassField(SECTION.or_null, None),
    }


#: how to train what reads images and text
TRAINING = {
    "freeze": free(LIST.of(TEXT).or_null),
    "loss_scaling": free(TEXT, "num_tokens"),
    "loss_weight": free(NUMBER, 1.0),
    "label_smoothing": free(NUMBER, 0.0, until=BEFORE_2_1),
    "z_loss_eps": free(NUMBER, 0.0, until=BEFORE_2_1),
    "moe_params": free(SECTION.or_null, {}, also=("moe",), since=(2, 4)),
    "mixed_precision": free(ANYTHING, until=(2, 5)),
    "fp16_type": free(TEXT.or_null, until=(2, 5)),
}

LLAVA = ConfigClass(
    "LlavaModelConfig", "ModelZoo 2.10.0, models/multimodal/llava/model.py, LlavaModelConfig", TRAINING | {
    "name": free(TEXT, ABSENT, since=(2, 4)),
    "image_model": ClassField(SECTION),
    "text_model": ClassField(SECTION),
    "image_feature_select_layer_idx": ClassField(WHOLE.or_null, -1),
    "image_feature_select_mode": ClassField(TEXT, "patch"),
    "image_start_idx": free(WHOLE, 1),  # of the data: where in the text an image stands
} | projector("projector.image_model"))  # fmt: skip

MULTIMODAL_SIMPLE = ConfigClass(
    "MultimodalDecoderModelConfig",
    "ModelZoo 2.10.0, models/multimodal/multimodal_simple/model.py, MultimodalDecoderModelConfig",
    {name: field for name, field in TRAINING.items() if name != "moe_params"} | {
    "name": free(TEXT, ABSENT, since=(2, 4)),
    "image_model_list": ClassField(SECTION),
    "image_model_list.image_feature_select_mode": ClassField(TEXT, "patch"),
    "text_model": ClassField(SECTION),
    "output_list": free(LIST.or_null),  # what else the model returns
    "loss_weight": free(NUMBER, 0.0),
} | projector("image_model_list.global_image_projection"))  # fmt: skip
