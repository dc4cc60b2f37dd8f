"""hf/dpr-biencoder and hf/dragon-biencoder <-> cerebras/dpr-biencoder: an encoder of questions, and one of contexts.

The text is what the first token becomes, behind a projection if ModelZoo's ``pooler_type`` says so. A DRAGON is two
BERTs, whose own poolers and heads nobody uses.

Facts: ModelZoo release 2.10.0, ``models/nlp/dpr``, ``tools/checkpoint_converters/{dpr,dragon}.py`` (rules of cs-2.2 ...
cs-2.9); transformers, ``models/dpr``; facebook/dragon-plus-{query,context}-encoder on the hub.
"""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from convkit.config import Answer, ConfigError, ConfigTable, Constant, Coupled, Row, Written
from convkit.mapping import Component, Layout, LeftBehind, Mapping, Variant, pack
from convkit.mappings.cerebras import dpr, dragon
from convkit.mappings.cerebras.classes import RELEASES
from convkit.mappings.cerebras.classes.dpr import DPR
from convkit.mappings.cerebras.common import MODEL_AT, NOT_THE_MODEL, OPTIMIZER

Values = dict[str, Any]
#: a component, and how keys of its encoder begin in both frameworks
ENCODERS = {"q_encoder": "question_encoder.", "ctx_encoder": "ctx_encoder."}


def _folders(name: str, summary: str, model_type: str) -> Layout:
    signature = {f"{part}.model_type": model_type for part in ENCODERS}
    return Layout(name, f"{summary} in the folders q_encoder and ctx_encoder", "folders", "config.json",
                  conventions={"norm": "post"}, signature=(signature,))  # fmt: skip


CS = Layout(
    "cerebras/dpr-biencoder",
    "ModelZoo DPRModel with two encoders, releases 2.2 ... 2.10",
    "cerebras-h5",
    "params.yaml",
    releases=RELEASES[1:],
    conventions={"norm": "post"},
    config_at=MODEL_AT,
    signature=(
        {"model.name": "dpr"},
        {"model.name": None, "model.use_biencoder": True},
        {"model.name": None, "model.scale_similarity": (True, False)},
    ),
)


def _pooler_to_cerebras(values: Values, names: Values) -> Answer:
    projected = [names.get(f"{part}.projected", False) for part in ENCODERS]
    if len(set(projected)) > 1:
        remedy = "ModelZoo's encoders both have one, or neither"
        raise ConfigError("only one of the encoders has a projection", key="projection_dim", remedy=remedy)
    if names["release"] and names["release"] < (2, 3):  # each encoder's own section says it
        return Answer()
    return Answer({"pooler_type": "ffn_pooler" if projected[0] else "cls"})


def _pooler_to_hf(values: Values, names: Values) -> Answer:
    pooler = values.get("pooler_type", "cls")
    if pooler not in ("cls", "ffn_pooler"):
        remedy = "transformers' encoders give what the first token becomes, behind a projection if there is one"
        raise ConfigError(f"is {pooler!r}", key="pooler_type", remedy=remedy)
    projected = [part for part in ENCODERS if f"{part}.projected" in names]
    if pooler == "ffn_pooler" and not projected:
        raise ConfigError(
            "is 'ffn_pooler', but a BERT has no projection", key="pooler_type", remedy="it may be a DPR's"
        )
    without = [part for part in ENCODERS if not names.get(f"{part}.projected", False)]
    if names["release"] and names["release"] < (2, 3):
        return Answer()
    if pooler == "ffn_pooler":
        return Answer(claims={f"{part}.projected": "pooler_type = ffn_pooler" for part in without})
    corrected = f"the config says pooler_type = {pooler}, the encoders have a projection each: corrected"
    return Answer(warnings=() if without else (corrected,))


ROWS: tuple[Row, ...] = (
    Constant("right", "name", "dpr"),
    Constant("right", "use_biencoder", True),
    Coupled((), ("pooler_type",), _pooler_to_cerebras, _pooler_to_hf),
    Written("right", "softmax_temperature", 1),
    Written("right", "mutual_information", False),
    Written("right", "scale_similarity", False),
    Written("right", "compute_eval_metrics", False),
)


def _encoder(of: Mapping, part: str, rows: tuple[Row, ...] = (), **choices: str) -> Component:
    fixed = {"cs": "", "which": ENCODERS[part], **choices}
    name = Constant("right", "name", "bert_model", also=("BertModel", "dpr"))
    return Component(of, right="", choices=fixed, rows=(name, *rows))


def _packed(hf: Layout, components: dict[str, Component]) -> Mapping:
    whole = Variant("cs", "right", ("model.", "model.model.", ""), f"{{=cs}}{ENCODERS['q_encoder']}{{rest:*}}")
    table = ConfigTable(ROWS, right=DPR, right_at=MODEL_AT)
    mapping = pack(hf, CS, components, table, under=("", "{=cs}"), rules=(NOT_THE_MODEL,), variants=(whole,))
    return replace(mapping, parts=(*mapping.parts, OPTIMIZER))


def _bare(of: Mapping) -> Mapping:
    """Without what doesn't belong to the model: the pack leaves it behind."""
    return replace(of, rules=tuple(rule for rule in of.rules if rule is not NOT_THE_MODEL), parts=())


#: of the original's yamls, though ``pooler_type`` alone decides
_SAID_TWICE = Coupled((), ("add_pooling_layer",), lambda values, names: Answer(), lambda values, names: Answer())


def _said(field: str, values: Values) -> Answer:
    (value,) = values.values() or (None,)
    return Answer({} if value is None else {field: value})


#: of a head that nobody uses: it is said if it was said
_TIED = Coupled(
    ("tie_word_embeddings",),
    ("share_embedding_weights",),
    lambda values, names: _said("share_embedding_weights", values),
    lambda values, names: _said("tie_word_embeddings", values),
)
_HEAD = LeftBehind("left", "cls.{rest:*}", "this encoder has no head")
_DRAGON = replace(dragon.MAPPING, rules=(*dragon.MAPPING.rules, _HEAD))


def _named(name: str, model_type: str) -> tuple[Row, ...]:
    return (Constant("left", "model_type", model_type), Written("left", "architectures", [name]))


DPR_CLASSES = {"q_encoder": "DPRQuestionEncoder", "ctx_encoder": "DPRContextEncoder"}
MAPPINGS = (
    _packed(
        _folders("hf/dpr-biencoder", "transformers DPRQuestionEncoder, DPRContextEncoder", "dpr"),
        {
            part: _encoder(_bare(dpr.MAPPING), part, _named(DPR_CLASSES[part], "dpr"), encoder=ENCODERS[part])
            for part in ENCODERS
        },
    ),
    _packed(
        _folders("hf/dragon-biencoder", "DRAGON, two of transformers' BertModel", "bert"),
        {part: _encoder(_bare(_DRAGON), part, (*_named("BertModel", "bert"), _SAID_TWICE, _TIED)) for part in ENCODERS},
    ),
)
