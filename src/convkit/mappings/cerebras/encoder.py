"""Encoders with ModelZoo's module names: a family adds its layer, its heads and its fields.

Facts: ModelZoo release 2.10.0, ``models/nlp/bert`` (its classes, also those of 2.1.0 ... 2.9.0); transformers,
``models/bert``. TensorFlow's spelling of a norm's parameters, ``gamma`` and ``beta``, lives on in old checkpoints.
"""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from convkit.config import Answer, ConfigError, ConfigTable, Constant, Coupled, Field, Row, Written
from convkit.mapping import AnyRule, LeftBehind, Mapping, Measure, Rule, Variant, under
from convkit.mappings.cerebras.common import (
    ACTIVATIONS,
    DOWN,
    HALF_TYPE,
    MODEL_AT,
    NOT_THE_MODEL,
    OPTIMIZER,
    OUT,
    UP,
    Cs,
    Hf,
    K,
    Q,
    V,
    vocabulary,
)
from convkit.mappings.cerebras.heads import equal_heads
from convkit.mappings.cerebras.mup import STATED, Scales, folded
from convkit.mappings.cerebras.tasks import Heads, Task

Values = dict[str, Any]

# --- names of leaves ---------------------------------------------------------------------------------------

#: the encoder within the model: ``{=trunk}`` is a task's; in a source, either
TRUNK, ANY_TRUNK = "{=cs}{=trunk}", "{=cs}{t:bert_encoder|bert}."
WORDS, POSITIONS = "embedding_layer.word_embeddings.weight", "embedding_layer.position_embeddings.embed.weight"
SEGMENTS, EMBEDDING_NORM = "embedding_layer.segment_embeddings.weight", "embed_ln_f"
LAYER = "transformer_encoder.layers.{i}."
#: the norms after attention and after the feed-forward part
NORM1, NORM2 = "norm1", "norm2"
POOLER = "pooler.pooler.ffn.0.linear_layer"
MLM = "{=cs}bert_mlm_head.mlm_transform"
DECODER = "{=cs}bert_mlm_head.classifier.ffn.0.linear_layer"
NSP = "{=cs}bert_cls_head.classifier.ffn.0.linear_layer"
CLASSIFIER = "{=cs}classifier"
ANY_HEAD = "{=cs}{h:bert_mlm_head|bert_cls_head|classifier}.{rest:*}"


def scaled(trunk: str) -> tuple[AnyRule, ...]:
    """The rules of what a muP model's factors are folded into, with an encoder below ``trunk``."""
    tables = tuple(trunk + table for table in (WORDS, POSITIONS, SEGMENTS))
    heads = tuple(f"{head}.{{p:weight|bias}}" for head in (DECODER, NSP))
    return folded({"mup_words": tables, "mup_key": (f"{trunk}{LAYER}{K}.{{p:weight|bias}}",), "mup_head": heads})


def norm(hf: str, cs: str, when: str = "") -> tuple[Rule, Rule]:
    """The rules of a layer norm, in the checkpoint's spelling."""
    return (
        Rule(f"{hf}.{{=scale}}", f"{cs}.weight", "d -> d", d="hidden", when=when),
        Rule(f"{hf}.{{=shift}}", f"{cs}.bias", "d -> d", d="hidden", when=when),
    )


#: a layer of BERT's: its rules, without prefixes
BERT_LAYER = (
    Rule("attention.self.query.{p:weight|bias}", f"{Q}.{{p}}", "o ... -> o ...", o="hidden"),
    Rule("attention.self.key.{p:weight|bias}", f"{K}.{{p}}", "o ... -> o ...", o="hidden"),
    Rule("attention.self.value.{p:weight|bias}", f"{V}.{{p}}", "o ... -> o ...", o="hidden"),
    Rule("attention.output.dense.{p:weight|bias}", f"{OUT}.{{p}}", "o ... -> o ...", o="hidden"),
    *norm("attention.output.LayerNorm", NORM1),
    Rule("intermediate.dense.{p:weight|bias}", f"{UP}.{{p}}", "f ... -> f ...", f="filter"),
    Rule("output.dense.{p:weight|bias}", f"{DOWN}.{{p}}", "d ... -> d ...", d="hidden"),
    *norm("output.LayerNorm", NORM2),
)


def embeddings(positions: int | str, segments: int | str) -> tuple[Rule, ...]:
    """The rules of BERT's tables beside that of the words, and of the norm behind them; with the tables' lengths."""
    return (
        Rule("position_embeddings.weight", POSITIONS, "p d -> p d", p=positions, d="hidden"),
        Rule("token_type_embeddings.weight", SEGMENTS, "s d -> s d", s=segments, d="hidden"),
        *norm("LayerNorm", EMBEDDING_NORM),
    )


def masked_words(dense: str, closing: str, bias: str, decoder: str) -> tuple[Rule, ...]:
    """The rules of the head for masked words, but for its output weight: a dense layer, a norm, and a bias, which in
    transformers is a second parameter beside the decoder's, tied to it if the model is tied.
    """
    return (
        Rule(f"{dense}.{{p:weight|bias}}", f"{MLM}.ffn.ffn.0.linear_layer.{{p}}", "o ... -> o ...", o="hidden",
             when="mlm & !headless"),
        *norm(closing, f"{MLM}.ln", when="mlm & !headless"),
        Rule((bias, f"{decoder}.bias"), f"{DECODER}.bias", "v -> v", v="vocab", when="mlm & tied & !headless"),
        Rule(f"{decoder}.bias", f"{DECODER}.bias", "v -> v", v="vocab", left_copies=bias,
             when="mlm & !tied & !headless"),  # untied: the decoder's own bias counts
    )  # fmt: skip


# --- rows --------------------------------------------------------------------------------------------------

#: rows of every encoder with BERT's fields; ``TIED`` where it may have a head for masked words
SIZES = (
    Field("vocab_size", "vocab_size", "vocab"),
    Field("hidden_size", "hidden_size", "hidden"),
    Field("num_hidden_layers", "num_hidden_layers", "layers"),
    Field("num_attention_heads", "num_heads", "heads"),
    equal_heads("num_attention_heads"),
    Field("intermediate_size", "filter_size", "filter"),
    Field("layer_norm_eps", "layer_norm_epsilon", "eps"),
    Field("initializer_range", "initializer_range"),
    Field("hidden_dropout_prob", "dropout_rate", "dropout"),
    Field("attention_probs_dropout_prob", "attention_dropout_rate", null=lambda names: names["dropout"]),
)
TIED = Field("tie_word_embeddings", "share_embedding_weights", "tied", null=True)

#: ModelZoo's classifiers accept only these (since 2.3)
CLASSIFIERS_ACTIVATIONS = {"gelu": "gelu", "gelu_new": "gelu_new", "relu": "relu", "silu": "silu"} | {
    "gelu_pytorch_tanh": "gelu_new",
    "swish": "silu",
}


def _act_to_cerebras(values: Values, names: Values) -> Answer:
    act = values.get("hidden_act", "gelu")
    choosy = not names["pretrained"] and not names["qa"] and not () < names["release"] < (2, 3)
    known = CLASSIFIERS_ACTIVATIONS if choosy else dict(reversed(ACTIVATIONS))
    if act not in known:
        raise ConfigError(f"{act!r} has no counterpart", key="hidden_act", remedy=f"known: {', '.join(known)}")
    fields = {"encoder_nonlinearity": known[act], "mlm_nonlinearity": known[act]}
    return Answer(fields, {"act": act}, defaults={} if "hidden_act" in values else {"hidden_act": act})


def _act_to_hf(values: Values, names: Values) -> Answer:
    act = values.get("encoder_nonlinearity", "gelu")
    mlm = values.get("mlm_nonlinearity")
    known = {cs: hf for hf, cs in reversed(ACTIVATIONS)}
    if act not in known:
        remedy = f"known: {', '.join(known)}"
        raise ConfigError(f"{act!r} has no counterpart", key="encoder_nonlinearity", remedy=remedy)
    if mlm not in (None, act):
        raise ConfigError(
            f"is {mlm!r}, the encoder's {act!r}", key="mlm_nonlinearity", remedy="transformers has one field for both"
        )
    left_out = {} if "encoder_nonlinearity" in values else {"encoder_nonlinearity": act}
    return Answer({"hidden_act": known[act]}, {"act": known[act]}, defaults=left_out)


activations = Coupled(("hidden_act",), ("encoder_nonlinearity", "mlm_nonlinearity"), _act_to_cerebras, _act_to_hf)


# --- the mapping -------------------------------------------------------------------------------------------


_POOLER = Rule(
    "{=hf}pooler.dense.{p:weight|bias}", f"{TRUNK}{POOLER}.{{p}}", "o ... -> o ...", o="hidden", when="pooled"
)


def encoder(
    hf: Hf,
    cs: Cs,
    layers: str,
    layer: tuple[AnyRule, ...],
    *,
    heads: Heads,
    rest: tuple[AnyRule, ...],
    rows: tuple[Row, ...],
    norm: str,
    measures: tuple[Measure, ...] = (),
) -> Mapping:
    """The mapping of an encoder: word embeddings, which the head for masked words may share; layers; a pooler; heads.

    Args:
        hf: transformers' side.
        cs: ModelZoo's side.
        layers: the prefix of a layer in transformers' base model, with the placeholder ``{i}``.
        layer: the rules of a layer, whose prefixes are added here.
        heads: the heads, with the rows of their tasks.
        rest: rules of the leaves beside them, with whole keys.
        rows: the rows of the config that all tasks have.
        norm: a norm of transformers' base model, which shows the spelling of all of them.
        measures: sizes that the tensors show.
    """
    words, decoder = "{=hf}" + hf.words, f"{hf.head}.weight"
    return Mapping(
        left=hf.layout,
        right=cs.layout,
        rules=(
            *vocabulary(words, decoder, TRUNK + WORDS, f"{DECODER}.weight", when="mlm"),
            Rule(words, TRUNK + WORDS, "v d -> v d", v="vocab", d="hidden", when="!mlm"),
            *under("{=hf}" + layers, TRUNK + LAYER, layer),
            *([_POOLER] if any(fact.name == "pooler" for fact in heads.facts) else []),
            *rest,
            *scaled(TRUNK),
            LeftBehind("left", "{=hf}pooler.{rest:*}", "this task has no pooler", when="!pooled"),
            LeftBehind("right", TRUNK + "pooler.{rest:*}", "this task has no pooler", when="!pooled"),
            LeftBehind("right", ANY_HEAD, "a base model has no head", when="headless"),
            NOT_THE_MODEL,
        ),
        config=ConfigTable(
            rows=_rows(hf, heads, rows, Scales(cs.config, head="pretrained")),
            left=hf.config,
            right=tuple((task.name, task.config) for task in heads.tasks),
            right_at=MODEL_AT,
        ),
        variants=(
            Variant("hf", "left", (hf.base, ""), words, headless=""),
            Variant("scale", "left", ("weight", "gamma"), f"{{=hf}}{norm}.{{=scale}}"),
            Variant("shift", "left", ("bias", "beta"), f"{{=hf}}{norm}.{{=shift}}"),
            Variant("cs", "right", ("model.", "model.model.", ""), ANY_TRUNK + WORDS),
        ),
        facts=heads.facts,
        measures=measures,
        axes={"i": "layers"},
        parts=(OPTIMIZER,),
        recalled=(STATED,),
    )


def _rows(hf: Hf, heads: Heads, rows: tuple[Row, ...], scales: Scales) -> tuple[Row, ...]:
    """The rows of every encoder, those of the family, and those that only one task has."""
    return (
        Constant("left", "model_type", hf.family),
        heads.row,
        Written("left", "architectures", lambda names: [names["architecture"]]),
        *(Constant("right", "name", task.yaml, when=task.name) for task in heads.tasks),
        *rows,
        *(_only(task, row) for task in heads.tasks for row in task.rows),
        HALF_TYPE,
        *scales.rows,
    )


def _only(task: Task, row: Row) -> Row:
    return replace(row, when=f"{task.name} & {row.when}" if row.when else task.name)
