"""hf/mllama <-> cerebras/mllama: Llama 3.2 Vision, a LLaMA of which some layers attend to an image instead of the text.

Facts: ModelZoo release 2.10.0, ``tools/checkpoint_converters/mllama.py`` (rules of cs-2.4 ... cs-2.9); transformers,
``models/mllama``: its word embeddings have 8 rows more than the vocabulary. Published checkpoints have the keys of
transformers 4.
"""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from convkit.config import Answer, ConfigError, ConfigTable, Constant, Coupled, Name, Written
from convkit.mapping import Component, Mapping, Rule, Variant, pack, under
from convkit.mappings.cerebras.classes.gpt2 import LLAMA
from convkit.mappings.cerebras.classes.mllama import MLLAMA
from convkit.mappings.cerebras.common import MODEL_AT, NOT_THE_MODEL, Cs, Hf, fixed
from convkit.mappings.cerebras.heads import EQUAL_HEADS_ROTATED, grouped
from convkit.mappings.cerebras.hf_classes.mllama import MLLAMA_CONFIG, MLLAMA_TEXT_CONFIG
from convkit.mappings.cerebras.llama_like import ACTIVATION, ATTENTION, MLP, NO_BIASES, NORMS, ROWS, without_biases
from convkit.mappings.cerebras.mllama_vision import VISION
from convkit.mappings.cerebras.rope import rope

Values = dict[str, Any]
#: rows of transformers' word embeddings beside the vocabulary: tokens that stand for images
EXTRA = 8
#: which layers attend to the image where a config doesn't say it
USUAL = [3, 8, 13, 18, 23, 28, 33, 38]
#: the field of ModelZoo's that says the epsilon of the norms of queries and keys, and its default
EPSILON, USUAL_EPSILON = "attention_qk_norm_eps", 1e-5


def _crossing(usual: list[int]) -> Any:
    def convert(values: Values, names: Values) -> Answer:
        stated = values.get("cross_attention_layers")
        layers = range(names["layers"])
        found = [i for i in usual if i in layers] if stated is None else stated
        if strange := [i for i in found if i not in layers]:
            problem = f"names layer {strange[0]}, and there are {len(layers)}"
            raise ConfigError(problem, key="cross_attention_layers", remedy="correct the config")
        apart = {"cross_layers": sorted(set(found)), "self_layers": [i for i in layers if i not in found]}
        field = {"cross_attention_layers": found}
        return Answer(field, apart, defaults={} if stated is not None else field)

    return convert


def _epsilon_to_cerebras(values: Values, names: Values) -> Answer:
    eps = names["eps"]
    return Answer({EPSILON: eps} if names["cross_layers"] and eps != USUAL_EPSILON else {})


def _epsilon_to_hf(values: Values, names: Values) -> Answer:
    found, eps = values.get(EPSILON, USUAL_EPSILON), names["eps"]
    if names["cross_layers"] and found != eps:
        problem = f"is {found}, and layer_norm_epsilon is {eps}"
        raise ConfigError(problem, key=EPSILON, remedy="transformers has one epsilon for both: they must be the same")
    return Answer()


# fmt: off
CROSSING = (
    Rule("cross_attn.q_proj.weight", "multihead_attn.proj_q_dense_layer.weight", "(h r) d -> (h r) d", h="heads",
         r="head_dim", d="hidden"),
    Rule("cross_attn.{n:k|v}_proj.weight", "multihead_attn.proj_{n}_dense_layer.weight", "(h r) d -> (h r) d",
         h="kv_heads", r="head_dim", d="hidden"),
    Rule("cross_attn.o_proj.weight", "multihead_attn.proj_output_dense_layer.weight", "d (h r) -> d (h r)", d="hidden",
         h="heads", r="head_dim"),
    Rule("cross_attn.{n:q|k}_norm.weight", "multihead_attn.{n}_norm.weight", "r -> r", r="head_dim"),
    Rule("cross_attn_{n:attn|mlp}_gate", "cross_attn_{n}_gate", "one -> one", one=1),
)
TEXT = Mapping(
    Hf("mllama_text_model", ("MllamaTextModel",), MLLAMA_TEXT_CONFIG, "", "").layout, Cs("llama", "", LLAMA).layout,
    rules=(
        Rule("embed_tokens.weight", "embedding_layer.word_embeddings.weight", "v d -> v d", v="rows", d="hidden"),
        *under("layers.{s}.", "transformer_decoder.layers.{s}.", without_biases(ATTENTION)),
        *under("layers.{x}.", "transformer_decoder.layers.{x}.", CROSSING),
        *under("layers.{i}.", "transformer_decoder.layers.{i}.", (*NORMS, *without_biases(MLP))),
        Rule("norm.weight", ("transformer_decoder.norm.weight", "ln_f.weight"), "d -> d", d="hidden"),
    ),
    config=ConfigTable((
        Constant("left", "model_type", "mllama_text_model"), Constant("right", "name", "llama", also=("LlamaModel",)),
        *(row for row in ROWS if getattr(row, "left", "") not in ("attention_dropout", "tie_word_embeddings")),
        Constant("left", "tie_word_embeddings", False), Written("right", "attention_dropout_rate", 0.0),
        *fixed(share_embedding_weights=False, num_extra_input_vocab_tokens=EXTRA),
        *EQUAL_HEADS_ROTATED, ACTIVATION, *NO_BIASES, grouped(8), rope(500000.0),
        Coupled(("cross_attention_layers",), ("cross_attention_layers",), _crossing(USUAL), _crossing([])),
        Coupled((), (EPSILON,), _epsilon_to_cerebras, _epsilon_to_hf),
        Name("rows", lambda names: names["vocab"] + EXTRA, of="vocab"),
    ), left=MLLAMA_TEXT_CONFIG, right=LLAMA),
    axes={"i": "layers", "s": "self_layers", "x": "cross_layers"},
)
MAPPING = pack(
    Hf("mllama", ("MllamaForConditionalGeneration",), MLLAMA_CONFIG, "", "", conventions={"rotary": "half"}).layout,
    replace(Cs("mllama", "Llama 3.2 Vision", MLLAMA, {"rotary": "interleaved"}, since=(2, 5)).layout,
            signature=({"model.image_model.name": "MllamaVisionModel"},)),
    {"text": Component(TEXT, "{=t}", "text_model.model.", "text_config", "text_model"),
     "vision": Component(VISION, "{=v}", "image_model.", "vision_config", "image_model")},
    ConfigTable((
        Constant("left", "model_type", "mllama"), Written("left", "architectures", ["MllamaForConditionalGeneration"]),
        Name("headless", lambda names: False),
    ), left=MLLAMA_CONFIG, right=MLLAMA, right_at=MODEL_AT),
    under=("", "{=cs}"),
    rules=(
        Rule("{=h}lm_head.weight", "{=cs}text_model.model.lm_head.weight", "v d -> v d", v="text.vocab",
             d="text.hidden"),
        Rule("{=m}multi_modal_projector.weight", "{=cs}projection.weight", "d f -> d f", d="text.hidden",
             f="vision.features"),
        Rule("{=m}multi_modal_projector.bias", "{=cs}projection.bias", "d -> d", d="text.hidden"),
        NOT_THE_MODEL,
    ),
    variants=(
        Variant("t", "left", ("model.language_model.", "language_model.model."), "{=t}embed_tokens.weight"),
        Variant("v", "left", ("model.vision_model.", "vision_model."), "{=v}class_embedding"),
        Variant("h", "left", ("", "language_model."), "{=h}lm_head.weight"),
        Variant("m", "left", ("model.", ""), "{=m}multi_modal_projector.weight"),
        Variant("cs", "right", ("model.", "model.model.", ""), "{=cs}image_model.class_embedding"),
    ),
)
