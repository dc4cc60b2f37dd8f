"""LLaVA, alone and in ModelZoo's model of several towers, whose recorded configs are those of both parts."""

from __future__ import annotations

from typing import Any

from config_deviations.deviation import NO_ACTIVATION, Deviation
from config_deviations.llama_like import NO_SUCH_SCALING
from config_deviations.vision import CUT, NO_GATE, ONE_EPSILON

MODELS: dict[str, dict[str, Any]] = {"llava": {}, "mmsimple-llava": {}}
PARTS = ("image_model", "text_model")
PACKED = {
    "llava": (("hf/llava", "cerebras/llava"), PARTS),
    "mmsimple-llava": (("hf/llava", "cerebras/multimodal_simple"), PARTS),
}
#: what no class of 2.10 takes
LEFT_OUT = {"norm_first", "use_ff_layer1_dropout", "label_smoothing", "z_loss_eps", "num_classes"}


def recorded(model: dict[str, Any]) -> dict[str, Any]:
    """Of the model of several towers, the tower stands in another place too, from which the original takes it only when
    it saves the yaml.
    """
    if "image_model_list" not in model:
        return model
    tower = model["image_model_list"]["image_models"][0]
    return model | {"image_model": tower.get("image_encoder") or tower["image_model"][0]}


NO_CLASSIFIER = "ViTModelConfig has no such field: the tower classifies nothing"
AS_WIDE = "without it, it is as wide as the tower: the original takes 64"
SQUARE = "transformers' CLIP takes squares only"
UNEQUAL = "12 heads in a hidden size of 30 don't stay equal"
LOOSE = "the model's class has no such field, only its parts have: it is listed"
DEFAULT = "the class's default (a KeyError)"
NO_MODE = "no features are called so"
NOT_THEIRS = "another model's name, which the original writes over"
TUNED = "the original looks for another spelling of what it wrote, and forgets it"

# fmt: off
DEVIATIONS = (
    Deviation("*", "*", {"use_bias_in_output": None}, NO_CLASSIFIER),
    Deviation("*", "only-model_type", "accept", AS_WIDE),
    Deviation("*", "1:-mm_hidden_size", "accept", AS_WIDE),
    Deviation("*", '0:hidden_act="silu"', {"nonlinearity": "silu"}, NO_GATE),
    Deviation("*", 'back: 0:hidden_act="silu"', "refuse", NO_ACTIVATION),
    Deviation("*", '*0:hidden_act="*glu"', "refuse", NO_ACTIVATION),
    Deviation("*", '*0:hidden_act="not_an_act"', "refuse", NO_ACTIVATION),
    Deviation("*", "*0:hidden_act=null", "refuse", NO_ACTIVATION),
    Deviation("*", "*0:layer_norm_eps=1e-12", "refuse", ONE_EPSILON),
    Deviation("*", "*0:image_size=24", "refuse", CUT),
    Deviation("*", "*0:patch_size=6", "refuse", CUT),
    Deviation("*", "*0:-image_size", "refuse", CUT),
    Deviation("*", "*0:-patch_size", "refuse", CUT),
    Deviation("*", "*0:image_size=[[]12, 1[28]]", "refuse", SQUARE),
    Deviation("*", "*0:projection_dim=0", "refuse", "a projection to nothing"),
    Deviation("*", "*0:-num_attention_heads", "refuse", UNEQUAL),
    Deviation("*", '1:hidden_act="gelu_*"', "accept", "a declared deviation: ModelZoo's geglu is the exact GELU"),
    Deviation("*", '1:rope_scaling={"rope_type": "default"}', "accept", "transformers' own way to say: no scaling"),
    Deviation("*", '1:rope_scaling={*longrope*', "refuse", NO_SUCH_SCALING, "cs-2.3"),
    Deviation("*", '1:rope_scaling={"rope_type": "llama3", "factor": 8.0}', "refuse",
              "transformers requires low_freq_factor and high_freq_factor"),
    Deviation("*", "1:num_key_value_heads=null", "accept", "as many as heads, by default (a TypeError)"),
    Deviation("*", "1:attention_bias=true",
              {"use_projection_bias_in_attention": True, "use_ffn_bias_in_attention": True},
              "the original's user has no choice: biases of the attention are converted"),
    Deviation("*", "1:mlp_bias=true", {"use_ffn_bias": True}, "the same of the feed-forward part"),
    Deviation("*", "1:head_dim=8", {"rotary_dim": 8}, "the original ignores it, ModelZoo has attention_inner_dim"),
    Deviation("*", "1:hidden_size=36", {"rotary_dim": 6}, "an explicit head_dim counts: see head_dim=8"),
    Deviation("*", "1:-hidden_size", {"rotary_dim": 6}, "an explicit head_dim counts: see head_dim=8"),
    Deviation("*", "1:attention_dropout=0.1", {"attention_dropout_rate": 0.1}, "transformers drops attention too"),
    Deviation("*", '1:model_type="bogus"', "refuse", NOT_THEIRS),
    Deviation("*", '0:model_type="bogus"', "refuse", NOT_THEIRS),
    Deviation("*", '*1:mm_vision_select_feature="bogus"', "refuse", NO_MODE),
    Deviation("*", "back: 1:tune_mm_mlp_adapter=true", {"tune_mm_mlp_adapter": True}, TUNED),
    Deviation("llava", "cs:-image_feature_select_layer_idx", "accept", DEFAULT),
    Deviation("llava", 'cs:image_feature_select_mode="bogus"', "refuse", NO_MODE),
    Deviation("llava", "cs:-image_feature_select_mode", "accept", DEFAULT),
    Deviation("*", "cs:+mup_base_hidden_size=12", "accept", LOOSE),
    Deviation("*", "cs:mup2*", "accept", LOOSE),
    Deviation("mmsimple-llava", "cs:+scale_qk_dot_by_d=true", "accept", LOOSE),
    Deviation("mmsimple-llava", "cs:trainer-wrapped", "accept", "a trainer's yaml (a KeyError)"),
)
# fmt: on
