"""SantaCoder."""

from __future__ import annotations

from typing import Any

from config_deviations.deviation import HEADLESS, PLAIN, Deviation, activations
from config_deviations.deviation import LEFT_OUT as OF_DECODERS

MODELS: dict[str, dict[str, Any]] = {"santacoder": {}, "santacoder-headless": HEADLESS}

#: keys of the original's yaml that 2.10's class rejects, and no release reads
LEFT_OUT = OF_DECODERS | {"scale_by_layer_index", "softmax_dtype_fp32"}
#: transformers' defaults, a version, and a field that the class doesn't have
NOISE = dict.fromkeys((
    "scale_attn_weight", "reorder_and_upcast_attn", "summary_activation", "summary_first_dropout",
    "summary_proj_to_labels", "summary_type", "summary_use_proj", "torch_dtype", "transformers_version",
))  # fmt: skip
CODE = {
    "AutoConfig": "bigcode/santacoder--configuration_gpt2_mq.GPT2CustomConfig",
    "AutoModel": "bigcode/santacoder--modeling_gpt2_mq.GPT2CustomModel",
    "AutoModelForCausalLM": "bigcode/santacoder--modeling_gpt2_mq.GPT2LMHeadCustomModel",
}

# fmt: off
DEVIATIONS = (
    *activations("activation_function"), *PLAIN,
    Deviation("*", "*", NOISE, "says nothing of this model"),
    Deviation("*", "*", {"auto_map": CODE}, "the hub's repository too: the original names files that it doesn't write"),
    Deviation("*-headless", "*", {"architectures": ["GPT2CustomModel"]}, "a base model has no head"),
    Deviation("*-headless", "", "accept", "the original finds no class of that name"),
    Deviation("*", "position_embedding_type=null", "accept", "null says nothing"),
    Deviation("*", "-attention_head_type", "refuse", "multihead by default: a GPT-2"),
    Deviation("*", "cs:-attention_module", "refuse", "a key for each head by default"),
)
# fmt: on
