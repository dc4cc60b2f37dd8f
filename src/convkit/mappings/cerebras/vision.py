"""Vision transformers with ModelZoo's module names: a family adds its layer, its head and its fields.

Facts: ModelZoo release 2.10.0, ``models/vision/vision_transformer`` (its classes, also those of 2.2.1 ... 2.9.0),
``layers/ViTEmbeddingLayer.py``: the class token is the first of the sequence, and its position the last of the table.
Its yamls have one name for all of them; what tells them apart is whether a norm follows the embedding.
"""

from __future__ import annotations

from typing import Any

from convkit.config import (
    COUNT,
    LIST,
    Answer,
    ConfigError,
    ConfigTable,
    Constant,
    Coupled,
    Field,
    Row,
    Written,
)
from convkit.config.values import shown
from convkit.mapping import AnyRule, Fact, LeftBehind, Mapping, Measure, Part, Rule, Variant, under
from convkit.mappings.cerebras.classes.vit import VISION_TRANSFORMER
from convkit.mappings.cerebras.common import ACTIVATIONS, HALF_TYPE, MODEL_AT, NOT_THE_MODEL, OPTIMIZER, Cs, Hf, fixed
from convkit.mappings.cerebras.heads import equal_heads

Values = dict[str, Any]

# --- names of leaves ---------------------------------------------------------------------------------------

EMBEDDING, ENCODER = "{=cs}vit_model.embedding_layer.", "{=cs}vit_model.encoder.transformer_encoder."
CLASS_TOKEN = f"{EMBEDDING}cls_embedding"
LAYER = f"{ENCODER}layers.{{i}}."
POOLER = "{=cs}vit_model.encoder.pooler.pooler.ffn.0.linear_layer"
HEAD = "{=cs}classifier.classifier.ffn.0.linear_layer"
#: the norms before attention and before the feed-forward part
NORM1, NORM2 = "norm1", "norm2"


def norm(hf: str, cs: str) -> Rule:
    """The rule of a layer norm."""
    return Rule(f"{hf}.{{p:weight|bias}}", f"{cs}.{{p}}", "d -> d", d="hidden")


def positions(hf: str, before: str = "") -> Rule:
    """The rule of the table of positions, whose first row, that of the class token, comes last in ModelZoo's."""
    pattern = f"{before}(c + p) d -> (p + c) d".lstrip()
    return Rule(hf, f"{EMBEDDING}position_embeddings.weight", pattern, c=1, p="patches", d="hidden")


def patches(hf: str, parameters: str) -> tuple[Rule, ...]:
    """The rules of the convolution that makes an embedding of each patch."""
    there, pattern = f"{EMBEDDING}linear_proj.weight", "o c y x -> o c y x"
    weight = Rule(f"{hf}.weight", there, pattern, o="hidden", c="channels", y="patch_height", x="patch_width")
    bias = Rule(f"{hf}.bias", f"{EMBEDDING}linear_proj.bias", "o -> o", o="hidden")
    return (weight, bias) if "bias" in parameters else (weight,)


# --- rows --------------------------------------------------------------------------------------------------

#: activations of both: transformers' name, ModelZoo's name; on the way back as its converter says them
ACTS = (("gelu_pytorch_tanh", "gelu_new"), *ACTIVATIONS)


def _sides(values: Values, key: str, usual: int) -> list[int]:
    """Height and width, which may be one number."""
    size = values.get(key, usual)
    try:
        pair = LIST.of(COUNT).read(size) if isinstance(size, list) else [COUNT.read(size)] * 2
    except ValueError:
        pair = []
    if len(pair) != 2:
        remedy = "it must be a number of pixels, or [height, width]"
        raise ConfigError(f"is {shown(size)}", key=key, remedy=remedy)
    return pair


def sizes(image: int, patch: int, *, square: bool = False, there: tuple[int, int] | None = (224, 16)) -> Coupled:
    """The row of the sizes of images and patches, which transformers' class takes to be ``image`` and ``patch`` where a
    config leaves them out, ModelZoo's to be ``there``; ``square``: its model takes no others. It declares ``patches``,
    ``positions`` and the sides of a patch.
    """

    fields = ("image_size", "patch_size")

    def cut(values: Values, usual: dict[str, int]) -> tuple[dict[str, list[int]], Answer]:
        pairs = {key: _sides(values, key, size) for key, size in usual.items()}
        (height, width), (patch_height, patch_width) = pairs.values()
        for key, (tall, wide) in pairs.items():
            if square and tall != wide:
                raise ConfigError(f"is {[tall, wide]}", key=key, remedy="transformers' model takes squares only")
        if height % patch_height or width % patch_width:
            problem = f"is {[height, width]}, which patches of {[patch_height, patch_width]} don't divide"
            raise ConfigError(problem, key="image_size", remedy="ModelZoo has no such model: correct the config")
        number = (height // patch_height) * (width // patch_width)
        names = {"patches": number, "positions": number + 1, "patch_height": patch_height, "patch_width": patch_width}
        left_out = {key: size for key, size in usual.items() if key not in values}
        return pairs, Answer(names=names, defaults=left_out)

    def to_cerebras(values: Values, names: Values) -> Answer:
        pairs, answer = cut(values, {"image_size": image, "patch_size": patch})
        return Answer(pairs, answer.names, defaults=answer.defaults)

    def to_hf(values: Values, names: Values) -> Answer:
        missing = [key for key in fields if key not in values]
        if there is None and missing:
            raise ConfigError("is missing", key=missing[0], remedy="add it: there is no default")
        pairs, answer = cut(values, dict(zip(fields, there or (image, patch), strict=True)))
        written = {key: pair if pair[0] != pair[1] else pair[0] for key, pair in pairs.items()}
        return Answer(written, answer.names, defaults={key: pairs[key] for key in answer.defaults})

    return Coupled(fields, fields, to_cerebras, to_hf)


NO_HEAD = "the checkpoint has no classifier: the base model is written"


def _head(base: str, full: str) -> Coupled:
    """The row of the class: with the head, or the base model, if there is none or the user asks for it."""

    def to_cerebras(values: Values, names: Values) -> Answer:
        if names.get("head", True):
            return Answer(names={"headless": False})
        claimed = full in (values.get("architectures") or ()) and not names.get("headless")
        return Answer(names={"headless": True}, claims={"head": f"architectures = {full}"} if claimed else {})

    def to_hf(values: Values, names: Values) -> Answer:
        asked, there = names.get("headless", False), names.get("head", True)
        warnings = () if asked or there else (NO_HEAD,)  # the yaml of a base model has a number of classes too
        return Answer(names={"headless": asked or not there}, warnings=warnings)

    return Coupled(("architectures",), (), to_cerebras, to_hf)


ROWS: tuple[Row, ...] = (
    Field("hidden_size", "hidden_size", "hidden"),
    Field("num_hidden_layers", "num_hidden_layers", "layers"),
    Field("num_attention_heads", "num_heads", "heads"),
    equal_heads("num_attention_heads"),
    Field("intermediate_size", "filter_size", "filter"),
    Field("num_channels", "num_channels", "channels"),
    Field("hidden_act", "nonlinearity", "act", values=ACTS),
    Field("initializer_range", "initializer_range"),
    *fixed(
        attention_type="scaled_dot_product",
        norm_first=True,
        position_embedding_type="learned",
        prepend_cls_token=True,
        use_conv_patchified_embedding=True,
        use_ffn_bias_in_attention=True,
        use_ffn_bias=True,
    ),
)


# --- the mapping -------------------------------------------------------------------------------------------


def vision(
    hf: Hf,
    cs: Cs,
    layers: str,
    layer: tuple[AnyRule, ...],
    *,
    rest: tuple[AnyRule, ...],
    rows: tuple[Row, ...],
    facts: tuple[Fact, ...] = (),
    parts: tuple[Part, ...] = (),
    headless: str | None = None,
) -> Mapping:
    """The mapping of a vision transformer: a class token, layers, and a head that may be missing.

    Args:
        hf: transformers' side; ``words`` is the class token.
        cs: ModelZoo's side.
        layers: the prefix of a layer in transformers' base model, with the placeholder ``{i}``.
        layer: the rules of a layer, whose prefixes are added here, as to ``parts``.
        rest: rules of the leaves beside them, with whole keys.
        rows: the rows beside :data:`ROWS`. They declare ``labels`` and all that the rules use.
        facts: what only the tensors show, beside the head.
        headless: the prefix of the keys of transformers' base model; None: that of the model with a head.
    """
    base, full = hf.classes
    left = "{=hf}" + layers
    labels = Measure("labels", (f"{hf.head}.weight", 0), (f"{HEAD}.weight", 0))
    return Mapping(
        left=hf.layout,
        right=cs.layout,
        rules=(
            *under(left, LAYER, layer),
            *rest,
            LeftBehind("right", f"{HEAD}.{{rest:*}}", "a base model has no head", when="headless"),
            NOT_THE_MODEL,
        ),
        config=ConfigTable(
            rows=(
                Constant("left", "model_type", hf.family),
                Constant("right", "name", cs.yaml or cs.family),
                _head(base, full),
                Written("left", "architectures", lambda names: [base if names["headless"] else full]),
                *ROWS,
                *rows,
                HALF_TYPE,
            ),
            left=hf.config,
            right=VISION_TRANSFORMER,
            right_at=MODEL_AT,
        ),
        variants=(
            Variant("hf", "left", (hf.base, ""), "{=hf}" + hf.words, headless=headless),
            Variant("cs", "right", ("model.", "model.model.", ""), CLASS_TOKEN),
        ),
        facts=(Fact("head", f"{hf.head}.weight", f"{HEAD}.weight", "a base model has no head"), *facts),
        measures=(labels,),
        axes={"i": "layers"},
        parts=(*(part.under(left, LAYER) for part in parts), OPTIMIZER),
    )
