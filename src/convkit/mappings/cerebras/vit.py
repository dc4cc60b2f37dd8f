"""hf/vit <-> cerebras/vit.

Facts: ModelZoo release 2.10.0, ``tools/checkpoint_converters/vit.py`` (rules of cs-2.1 ... cs-2.9), ``models/vision``;
transformers, ``models/vit``. Only its base model has a pooler, and only ModelZoo's classifier may read one.
"""

from __future__ import annotations

from typing import Any

from convkit.config import Answer, ConfigError, Coupled, Field, Flag
from convkit.mapping import Fact, LeftBehind, Part, Rule
from convkit.mappings.cerebras import vision as mz
from convkit.mappings.cerebras.classes.vit import VISION_TRANSFORMER
from convkit.mappings.cerebras.common import DOWN, NO_BIASES, OUT, QKV, UP, Cs, Hf, K, Q, V, fixed
from convkit.mappings.cerebras.hf_classes.vision import VIT_CONFIG
from convkit.mappings.cerebras.tasks import labels
from convkit.mappings.cerebras.vision import norm, patches, positions, sizes, vision

Values = dict[str, Any]


def _pooler_to_cerebras(values: Values, names: Values) -> Answer:
    pooled = names["headless"] and names.get("pooler", False)
    if not pooled:
        return Answer({"use_encoder_pooler_layer": False}, {"pooled": False})
    size, act = values.get("pooler_output_size") or names["hidden"], values.get("pooler_act", "tanh")
    if size != names["hidden"]:
        remedy = f"ModelZoo's pooler has the size of the hidden states, {names['hidden']}"
        raise ConfigError(f"is {size}", key="pooler_output_size", remedy=remedy)
    known = dict(reversed(mz.ACTS))
    if act not in known:
        raise ConfigError(f"{act!r} has no counterpart", key="pooler_act", remedy=f"known: {', '.join(known)}")
    left_out = {} if "pooler_act" in values else {"pooler_act": act}
    return Answer({"use_encoder_pooler_layer": True, "pooler_nonlinearity": known[act]}, {"pooled": True},
                  defaults=left_out)  # fmt: skip


def _pooler_to_hf(values: Values, names: Values) -> Answer:
    stated = values.get("use_encoder_pooler_layer", False)
    if stated and not names["headless"]:
        remedy = "transformers' classifier reads no pooler; --headless converts the base model alone"
        raise ConfigError("is True", key="use_encoder_pooler_layer", remedy=remedy)
    pooled = names["headless"] and names.get("pooler", stated)
    claims = {"pooler": "use_encoder_pooler_layer = True"} if stated and not pooled else {}
    if not pooled:
        return Answer(names={"pooled": False}, claims=claims)
    act = values.get("pooler_nonlinearity") or values.get("nonlinearity", names["act"])
    known = {cs: hf for hf, cs in reversed(mz.ACTS)}
    if act not in known:
        raise ConfigError(f"{act!r} has no counterpart", key="pooler_nonlinearity", remedy=f"known: {', '.join(known)}")
    return Answer({"pooler_act": known[act]}, {"pooled": True}, claims=claims)


# fmt: off
ATTENTION = "attention.attention"
LAYER = (
    Rule(f"{ATTENTION}.query.{{p:weight|bias?}}", f"{Q}.{{p}}", "o ... -> o ...", o="hidden"),
    Rule(f"{ATTENTION}.key.{{p:weight|bias?}}", f"{K}.{{p}}", "o ... -> o ...", o="hidden"),
    Rule(f"{ATTENTION}.value.{{p:weight|bias?}}", f"{V}.{{p}}", "o ... -> o ...", o="hidden"),
    Rule("attention.output.dense.{p:weight|bias}", f"{OUT}.{{p}}", "o ... -> o ...", o="hidden"),
    Rule("intermediate.dense.{p:weight|bias}", f"{UP}.{{p}}", "f ... -> f ...", f="filter"),
    Rule("output.dense.{p:weight|bias}", f"{DOWN}.{{p}}", "d ... -> d ...", d="hidden"),
    norm("layernorm_before", mz.NORM1), norm("layernorm_after", mz.NORM2),
)
BIASES = f"{ATTENTION}.{{n:query|key|value}}"

MAPPING = vision(
    Hf("vit", ("ViTModel", "ViTForImageClassification"), VIT_CONFIG, "vit.", "embeddings.cls_token", "classifier",
       {"class_token": "first"}),
    Cs("vit", "VisionTransformerModel", VISION_TRANSFORMER, {"class_token": "last"}, yaml="vision_transformer",
       unnamed={"model.use_conv_patchified_embedding": True},
       fields={"model.use_post_embed_layer_norm": (None, False)}),
    "encoder.layer.{i}.", LAYER, headless="",
    rest=(
        Rule("{=hf}embeddings.cls_token", mz.CLASS_TOKEN, "1 1 d -> d", d="hidden"),
        positions("{=hf}embeddings.position_embeddings", "1 "),
        *patches("{=hf}embeddings.patch_embeddings.projection", "weight bias"),
        norm("{=hf}layernorm", f"{mz.ENCODER}norm"),
        Rule("{=hf}pooler.dense.{p:weight|bias}", f"{mz.POOLER}.{{p}}", "o ... -> o ...", o="hidden", when="pooled"),
        LeftBehind("left", "{=hf}pooler.{rest:*}", "the classifier reads no pooler", when="!pooled"),
        Rule("classifier.{p:weight|bias}", f"{mz.HEAD}.{{p}}", "c ... -> c ...", c="labels", when="!headless"),
    ),
    rows=(
        Field("layer_norm_eps", "layer_norm_epsilon", "eps"),
        Field("hidden_dropout_prob", "dropout_rate"),
        Field("attention_probs_dropout_prob", "attention_dropout_rate"),
        sizes(224, 16),
        labels("num_classes", usual=2),
        Flag("qkv_bias", "use_projection_bias_in_attention", "qkv_bias"),
        Coupled(("pooler_act", "pooler_output_size"), ("use_encoder_pooler_layer", "pooler_nonlinearity"),
                _pooler_to_cerebras, _pooler_to_hf),
        *fixed(use_bias_in_output=True, use_embed_proj_bias=True, use_post_embed_layer_norm=False),
    ),
    facts=(
        Fact("pooler", "{=hf}pooler.dense.weight", f"{mz.POOLER}.weight", "a base model may have no pooler"),
        Fact("qkv_bias", f"{{=hf}}encoder.layer.{{i}}.{BIASES}.bias", f"{mz.LAYER}{Q}.bias", NO_BIASES),
    ),
    parts=(Part("left", "biases", (f"{BIASES}.bias",), f"{BIASES}.weight", lack=NO_BIASES),
           Part("right", "biases", (f"{QKV}.bias",), f"{QKV}.weight", lack=NO_BIASES)),
)
