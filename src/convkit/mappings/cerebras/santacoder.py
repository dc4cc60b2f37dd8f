"""hf/santacoder <-> cerebras/santacoder: a GPT-2 whose heads share one key and one value.

Facts: ModelZoo release 2.10.0, ``tools/checkpoint_converters/santacoder.py`` (rules of cs-2.1 ... cs-2.9),
``models/nlp/santacoder``; the code of the hub's ``bigcode/santacoder``, whose ``model_type`` is GPT-2's.
"""

from __future__ import annotations

from convkit.config import Constant, Field
from convkit.mapping import Rule
from convkit.mappings.cerebras.classes.gpt2 import SANTACODER
from convkit.mappings.cerebras.common import Cs, Hf, Q
from convkit.mappings.cerebras.decoder import decoder
from convkit.mappings.cerebras.gpt2 import OUTPUT_AND_FFN, REST
from convkit.mappings.cerebras.gpt2 import ROWS as GPT2_ROWS
from convkit.mappings.cerebras.hf_classes.hub import SANTACODER_CONFIG
from convkit.mappings.cerebras.hub import code_of
from convkit.mappings.cerebras.starcoder import STATED

# fmt: off
KV = "self_attn.proj_{kv:k|v}_dense_layer"
LAYER = (
    Rule("attn.q_attn.weight", f"{Q}.weight", "d o -> o d", d="hidden", o="hidden"),
    Rule("attn.q_attn.bias", f"{Q}.bias", "o -> o", o="hidden"),
    Rule("attn.kv_attn.weight", f"{KV}.weight", "d (kv r) -> kv r d", d="hidden", r="head_dim"),
    Rule("attn.kv_attn.bias", f"{KV}.bias", "(kv r) -> kv r", r="head_dim"),
    *OUTPUT_AND_FFN,
)
HF = Hf("santacoder", ("GPT2CustomModel", "GPT2LMHeadCustomModel"), SANTACODER_CONFIG, "transformer.", "wte.weight",
        conventions={"kernels": "in, out", "qkv": "fused keys and values"}, model_type="gpt2",
        fields={"attention_head_type": "multiquery"})
ROWS = (
    *GPT2_ROWS, *STATED,
    Constant("left", "attention_head_type", "multiquery"),
    Constant("right", "attention_module", "multiquery_attention"),
    Constant("right", "extra_attention_params", {"num_kv_groups": 1}, also=({}, None)),
    Field("scale_attn_by_inverse_layer_idx", "scale_qk_dot_by_layer_idx"),
    *code_of("bigcode/santacoder", HF, "gpt2_mq"),
)

MAPPING = decoder(
    HF,
    Cs("santacoder", "GPT2LMHeadModel configured as SantaCoder", SANTACODER, {"kernels": "out, in", "qkv": "apart"},
       ("SantaCoderModel",),
       unnamed={"model.attention_module": "multiquery_attention", "model.attention_softmax_fp32": None,
                "model.position_embedding_type": (None, "learned")}),
    "h.{i}.", LAYER, rows=ROWS, rest=REST,
)
