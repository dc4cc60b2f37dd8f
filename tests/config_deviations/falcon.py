"""Falcon, its RefinedWeb forms included."""

from __future__ import annotations

from typing import Any

from config_deviations.deviation import GPTJ_CLASS, HEADLESS, ROTARY, YARN, Deviation

#: what the tensors would have shown
NO_BIASES = {"qkv_bias": False, "o_bias": False, "mlp_bias": False}
MODELS: dict[str, dict[str, Any]] = {"falcon": NO_BIASES, "falcon-headless": HEADLESS | NO_BIASES}

#: fields of ModelZoo's that the original writes for transformers too, where they say nothing
OF_CEREBRAS = ("use_ffn_bias", "use_ffn_bias_in_attention", "use_projection_bias_in_attention")
TWO_NORMS = "with the new architecture null means two norms, which the checkpoint has; the original says one"
REFINED = "RefinedWeb may have biases, and a key for each head: the original can't"
CLASS = "the default of RefinedWeb's own class"

# fmt: off
DEVIATIONS = (
    *GPTJ_CLASS,
    Deviation("*", "*", dict.fromkeys(OF_CEREBRAS), "transformers' field is bias"),
    Deviation("*", 'activation="relu"', {"nonlinearity": "relu"}, "the original writes gelu, whatever activation says"),
    Deviation("*", "*", {"use_untied_layer_norm": True}, TWO_NORMS),
    Deviation("*", "cs:*", "accept",
              "the original refuses groups behind one norm (num_ln_in_parallel_attn = 1), any filter_size but 4 * "
              "hidden_size, any activation but gelu, and fields that are left out (a KeyError)"),
    Deviation("falcon", "num_ln_in_parallel_attn=2", "refuse", "transformers' other architecture has one norm"),
    Deviation("falcon", "*parallel_attn=false", "refuse", "transformers' new architecture can't run it; see two norms"),
    Deviation("falcon", "num_kv_heads=null", {"extra_attention_params": {"num_kv_groups": 4}},
              "as many as heads, by default"),
    Deviation("falcon", "-hidden_size", {"filter_size": 96}, "ffn_hidden_size says it; the original ignores it"),
    Deviation("falcon", "-hidden_size", "accept", f"{CLASS} (a KeyError)"),
    Deviation("falcon", "-multi_query", {"extra_attention_params": {"num_kv_groups": 4}}, CLASS),
    Deviation("falcon", "-parallel_attn", "refuse", f"{CLASS}: one after the other"),
    Deviation("falcon", "-model_type", "accept", "taken as transformers' own (a KeyError)"),
    Deviation("*", "empty", "accept", "taken as transformers' own (a KeyError)"),
    Deviation("falcon", "-model_type", "refuse", "a RefinedWeb taken as transformers' own has 71 heads"),
    Deviation("falcon", "apply_residual_connection_post_layernorm=true", "refuse", "ModelZoo's has no such residual"),
    Deviation("*", "multi_query=false", "accept", REFINED),
    Deviation("falcon", "bias=true", "accept", REFINED),
    Deviation("falcon", "use_bfloat16=*", {"fp16_type": None}, "the field ends with 2.4", "cs-2.5"),
    Deviation("*", 'rope_scaling={"rope_type": *', "accept", "today's spelling of type (a KeyError)"),
    Deviation("*", 'rope_scaling={*linear*', {"pos_scaling_type": None},
              "the field came with 2.3: until then every scaling is linear", "cs-2.[12]"),
    Deviation("*", 'rope_scaling={*yarn*', "refuse", "2.1 and 2.2 compute linear scaling only", "cs-2.[12]"),
    Deviation("*", 'rope_scaling={*"attention_factor": 1.2*', {"pos_scaling_extra_args": YARN},
              "the original loses attention_factor, which ModelZoo can say: mscale_a, mscale_b"),
    Deviation("*", "cs:rope-llama3", "refuse", "the GPT-J class has no such scaling: the original drops it"),
    Deviation("*", "cs:+embedding_layer_norm=true", "refuse", "transformers' Falcon has no such norm"),
    Deviation("*", "cs:+norm_first=false", "refuse", "a model whose norms come after its parts"),
    Deviation("falcon", "*hidden_size=36", "refuse", ROTARY),
    Deviation("falcon", "*-num_attention_heads", "refuse", "71 heads in a hidden size of 24"),
)
# fmt: on
