"""hf/dpr <-> cerebras/dpr: one encoder of a dense passage retriever, of questions or of contexts, as its keys say.

It is a BERT whose first token stands for the text, behind a projection or not. ModelZoo's projection is the pooler of
its BERT, as wide as the encoder, here without an activation.

Facts: ModelZoo release 2.10.0, ``models/nlp/dpr/model.py`` (``DPREncoderConfig``), ``dpr_model.py``,
``tools/checkpoint_converters/dpr.py`` (rules of cs-2.2 ... cs-2.9); transformers, ``models/dpr``.
"""

from __future__ import annotations

from typing import Any

from convkit.config import Answer, ConfigError, ConfigTable, Constant, Coupled, Field, Written
from convkit.mapping import AnyRule, Derived, Fact, LeftBehind, Mapping, Rule, Variant, under
from convkit.mappings.cerebras import encoder as mz
from convkit.mappings.cerebras.classes.bert import DPR_ENCODER
from convkit.mappings.cerebras.common import ACTIVATIONS, HALF_TYPE, MODEL_AT, NOT_THE_MODEL, OPTIMIZER, Cs, Hf
from convkit.mappings.cerebras.encoder import BERT_LAYER, SIZES, embeddings
from convkit.mappings.cerebras.hf_classes.bert import DPR_CONFIG

Values = dict[str, Any]
#: which encoder: the prefix in both frameworks -> transformers' class
ENCODERS = {"question_encoder.": "DPRQuestionEncoder", "ctx_encoder.": "DPRContextEncoder"}
BERT, TRUNK = "{=encoder}bert_model.", "{=cs}{=which}"


# fmt: off
def rules(bert: str) -> tuple[AnyRule, ...]:
    """The rules of an encoder that is a BERT of transformers below ``bert``, without what stands behind it."""
    return (
        LeftBehind("left", f"{bert}pooler.{{rest:*}}", "this encoder has no pooler"),
        Derived("left", f"{bert}embeddings.position_ids", "positions", {"n": "positions"}),
        Rule(f"{bert}embeddings.word_embeddings.weight", TRUNK + mz.WORDS, "v d -> v d", v="vocab", d="hidden"),
        *under(f"{bert}embeddings.", TRUNK, embeddings("positions", 2)),
        *under(f"{bert}encoder.layer.{{i}}.", TRUNK + mz.LAYER, BERT_LAYER),
    )


def variants(bert: str) -> tuple[Variant, ...]:
    """What its checkpoints differ in, on both sides: the spelling of norms, the prefix of the whole model."""
    return (
        Variant("scale", "left", ("weight", "gamma"), f"{bert}embeddings.LayerNorm.{{=scale}}"),
        Variant("shift", "left", ("bias", "beta"), f"{bert}embeddings.LayerNorm.{{=shift}}"),
        Variant("cs", "right", ("model.", "model.model.", ""), f"{{=cs}}{{t:question_encoder|ctx_encoder}}.{mz.WORDS}"),
    )


PROJECTION = (
    Rule("{=encoder}encode_proj.weight", f"{TRUNK}{mz.POOLER}.weight", "o d -> o d", o="hidden", d="hidden",
         when="projected"),
    Rule("{=encoder}encode_proj.bias", f"{TRUNK}{mz.POOLER}.bias", "o -> o", o="hidden", when="projected"),
)


def _projection_to_cerebras(values: Values, names: Values) -> Answer:
    width = values.get("projection_dim", 0)
    if width not in (0, names["hidden"]):
        problem = f"is {width}, but ModelZoo's pooler is as wide as the encoder: {names['hidden']}"
        raise ConfigError(problem, key="projection_dim", remedy="this model has no counterpart")
    projected = names.get("projected", bool(width))
    corrected = ("the config says projection_dim = 0, the checkpoint has a projection: corrected",)
    return Answer({"add_pooling_layer": projected, "pooler_nonlinearity": "linear" if projected else "tanh"},
                  {"projected": projected}, corrected if projected and not width else (),
                  claims={"projected": f"projection_dim = {width}"} if width and not projected else {})


def _projection_to_hf(values: Values, names: Values) -> Answer:
    stated, act = values.get("add_pooling_layer", False), values.get("pooler_nonlinearity")
    projected = names.get("projected", stated)
    if projected and act != "linear":
        problem = f"is {act!r}, but transformers' projection has no activation"
        raise ConfigError(problem, key="pooler_nonlinearity", remedy="this model has no counterpart")
    return Answer({"projection_dim": names["hidden"] if projected else 0}, {"projected": projected},
                  claims={"projected": "add_pooling_layer = True"} if stated and not projected else {})


def _segments(values: Values, names: Values) -> Answer:
    number = values.get("num_segments", 0 if values.get("disable_nsp") else 2)
    if number != 2:
        raise ConfigError(f"is {number}", key="num_segments", remedy="transformers' model has two segments: correct it")
    return Answer()


ROWS = (
    *SIZES,
    Field("max_position_embeddings", "max_position_embeddings", "positions"),
    Field("hidden_act", "encoder_nonlinearity", "act", values=ACTIVATIONS),
    Field("position_embedding_type", "position_embedding_type", values=(("absolute", "learned"),)),
    Coupled((), ("num_segments", "disable_nsp"), lambda values, names: Answer(), _segments),
    Written("right", "freeze_ffn_bias_in_glu", False),
    HALF_TYPE,
)
WIDTH = Coupled(("projection_dim",), ("add_pooling_layer", "pooler_nonlinearity"), _projection_to_cerebras,
                _projection_to_hf)
HF = Hf("dpr", tuple(reversed(ENCODERS.values())), DPR_CONFIG, "", "", conventions={"norm": "post"})
CS = Cs("dpr", "one encoder of DPR", DPR_ENCODER, {"norm": "post"}, ("BertModel",), yaml="bert_model", since=(2, 2),
        unnamed={}, fields={"model.add_pooling_layer": (True, False)})  # yamls of DRAGON's don't say it

MAPPING = Mapping(
    left=HF.layout,
    right=CS.layout,
    rules=(*rules(BERT), *PROJECTION, NOT_THE_MODEL),
    config=ConfigTable(
        (Constant("left", "model_type", "dpr"), Constant("right", "name", "bert_model", also=("BertModel",)),
         Written("left", "architectures", lambda names: [ENCODERS[names.get("which", "question_encoder.")]]), *ROWS,
         WIDTH),
        left=DPR_CONFIG, right=DPR_ENCODER, right_at=MODEL_AT,
    ),
    variants=(
        Variant("encoder", "left", tuple(ENCODERS), BERT + "embeddings.word_embeddings.weight",
                usual=lambda names: names["which"]),
        *variants(BERT),
        Variant("which", "right", tuple(ENCODERS), TRUNK + mz.WORDS,
                usual=lambda names: names["encoder"]),
    ),
    facts=(Fact("projected", "{=encoder}encode_proj.weight", TRUNK + mz.POOLER + ".weight"),),
    axes={"i": "layers"},
    parts=(OPTIMIZER,),
)
