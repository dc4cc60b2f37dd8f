"""hf/bert <-> cerebras/bert, for every task: the heads are recognised by their keys.

===========================================  ====================================  ================================
transformers                                 ModelZoo                              recognised by
===========================================  ====================================  ================================
``BertForPreTraining``                       ``bert``                              both heads
``BertForMaskedLM``                          ``bert``, ``disable_nsp``             the MLM head alone
``BertForNextSentencePrediction``            ``bert``                              the NSP head alone
``BertModel``                                ``bert``, to be trained on            no head
``BertForSequenceClassification``            ``bert/classifier``                   a classifier, and a pooler
``BertForTokenClassification``               ``bert/token_classifier``             a classifier, no pooler
``BertForQuestionAnswering``                 none in 2.10; keys of the converter   ``qa_outputs``; no ``num_classes``
===========================================  ====================================  ================================

If the keys are ambiguous, ``architectures`` and the yaml's ``name`` decide.

Facts: ModelZoo release 2.10.0, ``tools/checkpoint_converters/bert.py`` and ``bert_finetune.py`` (rules of
cs-2.1 ... cs-2.9), ``models/nlp/bert`` (config classes, also those of 2.1.0 ... 2.9.0);
transformers, ``models/bert``, where the MLM decoder's bias has two names and tied models save neither
the decoder's weight nor that bias's second name; TensorFlow's spelling of norms is ``gamma``, ``beta``.
"""

from __future__ import annotations

from typing import Any

from convkit.config import ABSENT, REQUIRED, ConfigTable, Constant, Coupled, Field, Rejected, Written
from convkit.errors import ConfigError
from convkit.mapping import Derived, Fact, Layout, LeftBehind, Mapping, Rule, Variant, under
from convkit.mappings.cerebras.classes import RELEASES
from convkit.mappings.cerebras.common import (
    ACTIVATIONS,
    CS_DEFAULTS,
    HALF_TYPE,
    HF_DEFAULTS,
    MODEL_AT,
    MUP_REFUSED,
    NOT_THE_MODEL,
)
from convkit.mappings.cerebras.hf import COMPANIONS

Values = dict[str, Any]

#: ModelZoo's classifiers, and the field that only their yamls have (releases before 2.4 have no ``name``)
CLASSIFIERS = {"bert/classifier": "sequence", "bert/token_classifier": "token"}
THEIR_FIELDS = {
    "sequence": ("num_labels", "problem_type", "task_dropout"),
    "token": ("num_classes", "encoder_output_dropout_rate", "include_padding_in_loss"),
}

HF = Layout(
    name="hf/bert",
    summary="transformers BertModel and its BertFor...",
    format="safetensors",
    config_file="config.json",
    conventions={"norm": "post"},
    signature=({"model_type": "bert"},),
    companions=COMPANIONS,
)
CS = Layout(
    name="cerebras/bert",
    summary="ModelZoo BERT: pre-training, sequence and token classification, releases 2.1 ... 2.10",
    format="cerebras-h5",
    config_file="params.yaml",
    releases=RELEASES,
    config_at=MODEL_AT,
    conventions={"norm": "post"},
    signature=(
        {"model.name": ("bert", *CLASSIFIERS)},
        {
            "model.name": None,
            "model.encoder_nonlinearity": tuple(cs for _, cs in ACTIVATIONS),
            "model.decoder_nonlinearity": None,
            "model.position_embedding_type": (None, "learned"),
            "model.mask_padding_in_positional_embed": (None, False),
        },
    ),
)


def _norm(hf: str, cs: str, when: str = "") -> tuple[Rule, Rule]:
    """A layer norm, in the checkpoint's spelling."""
    return (
        Rule(f"{hf}.{{=scale}}", f"{cs}.weight", "d -> d", d="hidden", when=when),
        Rule(f"{hf}.{{=shift}}", f"{cs}.bias", "d -> d", d="hidden", when=when),
    )


LAYER = (
    Rule("attention.self.query.{p:weight|bias}", "self_attn.proj_q_dense_layer.{p}", "o ... -> o ...", o="hidden"),
    Rule("attention.self.key.{p:weight|bias}", "self_attn.proj_k_dense_layer.{p}", "o ... -> o ...", o="hidden"),
    Rule("attention.self.value.{p:weight|bias}", "self_attn.proj_v_dense_layer.{p}", "o ... -> o ...", o="hidden"),
    Rule("attention.output.dense.{p:weight|bias}", "self_attn.proj_output_dense_layer.{p}",
         "o ... -> o ...", o="hidden"),
    *_norm("attention.output.LayerNorm", "norm1"),
    Rule("intermediate.dense.{p:weight|bias}", "ffn.ffn.0.linear_layer.{p}", "f ... -> f ...", f="filter"),
    Rule("output.dense.{p:weight|bias}", "ffn.ffn.1.linear_layer.{p}", "d ... -> d ...", d="hidden"),
    *_norm("output.LayerNorm", "norm2"),
)  # fmt: skip

WORDS = "{=cs}{=trunk}embedding_layer.word_embeddings.weight"
DECODER = "{=cs}bert_mlm_head.classifier.ffn.0.linear_layer"
POOLER = "pooler.pooler.ffn.0.linear_layer"

RULES = (
    Rule(("{=hf}embeddings.word_embeddings.weight", "cls.predictions.decoder.weight"),
         (WORDS, f"{DECODER}.weight"), "v d -> v d", v="vocab", d="hidden", when="mlm & tied & !headless"),
    Rule("{=hf}embeddings.word_embeddings.weight", (WORDS, f"{DECODER}.weight"), "v d -> v d",
         v="vocab", d="hidden", when="mlm & tied & headless"),
    Rule("{=hf}embeddings.word_embeddings.weight", WORDS, "v d -> v d", v="vocab", d="hidden", when="mlm & !tied"),
    Rule("{=hf}embeddings.word_embeddings.weight", WORDS, "v d -> v d", v="vocab", d="hidden", when="!mlm"),
    Rule("{=hf}embeddings.position_embeddings.weight",
         "{=cs}{=trunk}embedding_layer.position_embeddings.embed.weight", "p d -> p d", p="positions", d="hidden"),
    Rule("{=hf}embeddings.token_type_embeddings.weight",
         "{=cs}{=trunk}embedding_layer.segment_embeddings.weight", "s d -> s d", s=2, d="hidden"),
    *_norm("{=hf}embeddings.LayerNorm", "{=cs}{=trunk}embed_ln_f"),
    *under("{=hf}encoder.layer.{i}.", "{=cs}{=trunk}transformer_encoder.layers.{i}.", LAYER),
    Rule("{=hf}pooler.dense.{p:weight|bias}", f"{{=cs}}{{=trunk}}{POOLER}.{{p}}", "o ... -> o ...",
         o="hidden", when="pooled"),

    Rule("cls.predictions.transform.dense.{p:weight|bias}",
         "{=cs}bert_mlm_head.mlm_transform.ffn.ffn.0.linear_layer.{p}", "o ... -> o ...",
         o="hidden", when="mlm & !headless"),
    *_norm("cls.predictions.transform.LayerNorm", "{=cs}bert_mlm_head.mlm_transform.ln", when="mlm & !headless"),
    Rule("cls.predictions.decoder.weight", f"{DECODER}.weight", "v d -> v d",
         v="vocab", d="hidden", when="mlm & !tied & !headless"),
    Rule(("cls.predictions.bias", "cls.predictions.decoder.bias"), f"{DECODER}.bias", "v -> v",
         v="vocab", when="mlm & tied & !headless"),
    Rule("cls.predictions.decoder.bias", f"{DECODER}.bias", "v -> v", v="vocab",
         left_copies="cls.predictions.bias", when="mlm & !tied & !headless"),  # untied: the decoder's own bias counts
    Rule("cls.seq_relationship.{p:weight|bias}", "{=cs}bert_cls_head.classifier.ffn.0.linear_layer.{p}",
         "c ... -> c ...", c=2, when="nsp & !headless"),
    Rule("classifier.{p:weight|bias}", "{=cs}classifier.{p}", "c ... -> c ...",
         c="labels", when="head & !qa & !headless"),
    Rule("qa_outputs.{p:weight|bias}", "{=cs}classifier.{p}", "c ... -> c ...", c=2, when="head & qa & !headless"),

    Derived("left", "{=hf}embeddings.position_ids", "positions", {"n": "positions"}),
    LeftBehind("left", "{=hf}pooler.{rest:*}", "this task has no pooler", when="!pooled"),
    LeftBehind("right", "{=cs}{=trunk}pooler.{rest:*}", "this task has no pooler", when="!pooled"),
    LeftBehind("right", "{=cs}{h:bert_mlm_head|bert_cls_head|classifier}.{rest:*}", "a base model has no head",
               when="headless"),
    NOT_THE_MODEL,
)  # fmt: skip


# --- which task ------------------------------------------------------------------------------------------


def _task_from_hf(values: Values, names: Values) -> Values:
    architectures = [name for name in values.get("architectures") or () if name.startswith("Bert")]
    if "mlm" not in names:  # the tensors aren't known: trust the config
        task = architectures[0] if architectures else "BertForPreTraining"
        names = names | {
            "mlm": task in ("BertForPreTraining", "BertForMaskedLM"),
            "nsp": task in ("BertForPreTraining", "BertForNextSentencePrediction"),
            "head": task.endswith(("Classification", "Answering", "Choice")),
            "qa": task == "BertForQuestionAnswering",
            "pooler": task not in ("BertForMaskedLM", "BertForTokenClassification", "BertForQuestionAnswering"),
        }
    if not names["head"] or names["qa"]:
        return _task(names, "")
    if "BertForMultipleChoice" in architectures:
        raise ConfigError("Cerebras has no multiple-choice head", key="architectures", remedy="convert the base model")
    if "BertForSequenceClassification" in architectures or "BertForTokenClassification" in architectures:
        return _task(names, "sequence" if "BertForSequenceClassification" in architectures else "token")
    return _task(names, "sequence" if names["pooler"] else "token")


def _task_from_cerebras(values: Values, names: Values) -> Values:
    kind = CLASSIFIERS.get(values.get("name", ""), "")
    if not kind:
        kind = next((kind for kind, fields in THEIR_FIELDS.items() if values.keys() & set(fields)), "")
    if "mlm" not in names:  # the tensors aren't known: trust the config
        pretraining = {"mlm": not kind, "nsp": not (kind or values.get("disable_nsp", False))}
        names = names | pretraining | {"head": bool(kind), "pooler": kind == "sequence" or pretraining["nsp"]}
    if not names["head"]:
        kind = ""
    elif not kind and names["pooler"]:
        kind = "sequence"
    return _task(names | {"qa": names["head"] and not kind}, kind, headless=names.get("headless", False))


def _task(names: Values, kind: str, headless: bool = False) -> Values:
    found = {name: names[name] for name in ("mlm", "nsp", "head", "qa", "pooler")}
    bare = not (names["mlm"] or names["nsp"] or names["head"])
    declared = found | {
        "headless": headless or bare,
        "sequence": kind == "sequence",
        "token": kind == "token",
        "pooled": kind == "sequence" or names["nsp"] or (bare and names["pooler"]),
        "trunk": "bert." if names["head"] else "bert_encoder.",
        "pretrained": not names["head"],
    }
    return {f"={name}": value for name, value in declared.items()}


def _architectures(names: Values) -> list[str]:
    tasks = {
        "Model": names["headless"],
        "ForQuestionAnswering": names["qa"],
        "ForSequenceClassification": names["sequence"],
        "ForTokenClassification": names["token"],
        "ForPreTraining": names["mlm"] and names["nsp"],
        "ForMaskedLM": names["mlm"],
        "ForNextSentencePrediction": names["nsp"],
    }
    return [next(f"Bert{task}" for task, it_is in tasks.items() if it_is)]


TASK = Coupled(
    left=("architectures",),
    right=("name", "disable_nsp", *THEIR_FIELDS["sequence"], *THEIR_FIELDS["token"]),
    to_right=_task_from_hf,
    to_left=_task_from_cerebras,
)

# --- fields that need more than a line -------------------------------------------------------------------

#: ModelZoo's classifiers accept only these (since 2.3)
CLASSIFIERS_ACTIVATIONS = {"gelu": "gelu", "gelu_new": "gelu_new", "relu": "relu", "silu": "silu"} | {
    "gelu_pytorch_tanh": "gelu_new",
    "swish": "silu",
}


def _act_to_cerebras(values: Values, names: Values) -> Values:
    act = values.get("hidden_act", "gelu")
    choosy = (names["sequence"] or names["token"]) and not () < names["release"] < (2, 3)
    known = CLASSIFIERS_ACTIVATIONS if choosy else dict(reversed(ACTIVATIONS))
    if act not in known:
        raise ConfigError(f"{act!r} has no counterpart", key="hidden_act", remedy=f"known: {', '.join(known)}")
    return {"=act": act, "encoder_nonlinearity": known[act], "mlm_nonlinearity": known[act]}


def _act_to_hf(values: Values, names: Values) -> Values:
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
    return {"=act": known[act], "hidden_act": known[act]}


def _labels(values: Values) -> int:
    """The number of labels, counted like transformers: by their names, if there are any."""
    names = values.get("id2label")
    return len(names) if names else values.get("num_labels") or 2


def _labels_as(field: str) -> Coupled:
    def to_cerebras(values: Values, names: Values) -> Values:
        return {"=labels": _labels(values), field: _labels(values)}

    def to_hf(values: Values, names: Values) -> Values:
        if field not in values:
            raise ConfigError("is missing", key=field, remedy="add it: there is no default")
        return {"=labels": values[field], "num_labels": values[field]}

    when = "sequence" if field == "num_labels" else "token"
    return Coupled(("num_labels", "id2label"), (field,), to_cerebras, to_hf, when=when)


def _two_labels(values: Values, names: Values) -> Values:
    if _labels(values) != 2:
        raise ConfigError(f"is {_labels(values)}", key="num_labels", remedy="a span has two ends: it must be 2")
    return {"!": "no Cerebras release has a class for question answering: the keys of ModelZoo's converter are written"}


def _problem_to_cerebras(values: Values, names: Values) -> Values:
    problem = values.get("problem_type") or ("regression" if names["labels"] == 1 else None)
    if problem not in PROBLEMS:
        raise ConfigError(
            f"is {problem!r}", key="problem_type", remedy=f"add it to the config: {' or '.join(PROBLEMS)}"
        )
    return {"problem_type": problem}


def _problem_to_hf(values: Values, names: Values) -> Values:
    problem = values.get("problem_type", ABSENT)
    if problem not in (*PROBLEMS, ABSENT):
        raise ConfigError(f"is {problem!r}", key="problem_type", remedy=f"known: {', '.join(PROBLEMS)}")
    return {"problem_type": problem}


PROBLEMS = ("single_label_classification", "multi_label_classification", "regression")


def _dropout(names: Values) -> Any:
    return names["dropout"]


def _by_class(pretraining: Any, sequence: Any, token: Any) -> Any:
    """The default of the ModelZoo class in use."""
    return lambda names: sequence if names["sequence"] else token if names["token"] else pretraining


CONFIG = ConfigTable(
    left_source=HF_DEFAULTS.format("bert", "BertConfig"),
    right_source=CS_DEFAULTS.format("bert", "BertModelConfig and its subclasses"),
    right_at=MODEL_AT,
    rows=(
        Constant("left", "model_type", "bert"),
        TASK,
        Written("left", "architectures", _architectures),
        Constant("right", "name", "bert", when="!sequence & !token", since=(2, 4)),
        Constant("right", "name", "bert/classifier", when="sequence", since=(2, 4)),
        Constant("right", "name", "bert/token_classifier", when="token", since=(2, 4)),
        Field("vocab_size", "vocab_size", "vocab", 30522, _by_class(50257, 30522, 30522)),
        Field("hidden_size", "hidden_size", "hidden", 768, 768),
        Field("num_hidden_layers", "num_hidden_layers", "layers", 12, 12),
        Field("num_attention_heads", "num_heads", "heads", 12, 12),
        Field("intermediate_size", "filter_size", "filter", 3072, 3072),
        Field("max_position_embeddings", "max_position_embeddings", "positions", 512, REQUIRED, when="!head"),
        Field("max_position_embeddings", "max_position_embeddings", "positions", 512, 1024, when="head"),
        Field("layer_norm_eps", "layer_norm_epsilon", "eps", 1e-12, 1e-5),
        Field("initializer_range", "initializer_range", "", 0.02, 0.02),
        Field("hidden_dropout_prob", "dropout_rate", "dropout", 0.1, _by_class(0.1, 0.1, 0.0)),
        Field("attention_probs_dropout_prob", "attention_dropout_rate", "", 0.1, _by_class(None, 0.1, 0.0),
              null=_dropout),
        Field("tie_word_embeddings", "share_embedding_weights", "tied", True, True),
        Field("position_embedding_type", "position_embedding_type", "", "absolute", "learned",
              (("absolute", "learned"),)),
        Coupled(("hidden_act",), ("encoder_nonlinearity", "mlm_nonlinearity"), _act_to_cerebras, _act_to_hf),
        Constant("right", "pooler_nonlinearity", "tanh", default=lambda n: n["act"] if n["pooled"] else "tanh"),
        Constant("left", "type_vocab_size", 2, default=2, write=False),
        Constant("left", "is_decoder", False, write=False),
        Constant("left", "add_cross_attention", False, write=False),

        # pre-training
        Constant("right", "disable_nsp", False, write=False, when="pretrained & pooled"),
        Constant("right", "num_segments", 2, write=False, when="pretrained & pooled"),
        Constant("right", "disable_nsp", True, default=False, when="pretrained & !pooled"),
        Constant("right", "num_segments", 2, default=None, when="pretrained & !pooled"),
        Written("right", "freeze_ffn_bias_in_glu", False, when="pretrained", since=(2, 3)),

        # sequence classification
        _labels_as("num_labels"),
        Coupled(("problem_type",), ("problem_type",), _problem_to_cerebras, _problem_to_hf, when="sequence"),
        Field("classifier_dropout", "task_dropout", "", None, ABSENT, null=_dropout, when="sequence"),

        # token classification
        _labels_as("num_classes"),
        Field("classifier_dropout", "encoder_output_dropout_rate", "", None, ABSENT, null=_dropout, when="token"),
        Written("right", "loss_weight", 1.0, when="token"),
        Written("right", "include_padding_in_loss", False, when="token"),

        # question answering
        Coupled(("num_labels", "id2label"), (), _two_labels, lambda values, names: {"num_labels": 2}, when="qa"),

        Constant("right", "attention_type", "scaled_dot_product", write=False),
        Constant("right", "attention_module", "aiayn_attention", write=False),
        Constant("right", "embedding_layer_norm", True, write=False),
        Constant("right", "norm_first", False, write=False),
        Constant("right", "use_final_layer_norm", False, write=False),
        Constant("right", "use_projection_bias_in_attention", True, write=False),
        Constant("right", "use_ffn_bias_in_attention", True, write=False),
        Constant("right", "use_ffn_bias", True, write=False),
        Constant("right", "use_ffn_bias_in_mlm", True, write=False),
        Constant("right", "use_output_bias_in_mlm", True, write=False),
        Constant("right", "mask_padding_in_positional_embed", False, write=False),
        HALF_TYPE,
        MUP_REFUSED,
        Rejected("right", ("initializer_range", "share_embedding_weights", "position_embedding_type",
                 "mlm_nonlinearity"), when="!pretrained & !qa", since=(2, 3), until=(2, 4)),
    ),
)  # fmt: skip

TRUNK = "{=cs}{t:bert_encoder|bert}."

MAPPING = Mapping(
    left=HF,
    right=CS,
    rules=RULES,
    config=CONFIG,
    variants=(
        Variant("hf", "left", ("bert.", ""), "{=hf}embeddings.word_embeddings.weight", headless=""),
        Variant("scale", "left", ("weight", "gamma"), "{=hf}embeddings.LayerNorm.{=scale}"),
        Variant("shift", "left", ("bias", "beta"), "{=hf}embeddings.LayerNorm.{=shift}"),
        Variant("cs", "right", ("model.", "model.model.", ""), f"{TRUNK}embedding_layer.word_embeddings.weight"),
    ),
    facts=(
        Fact("mlm", "cls.predictions.transform.dense.weight",
             "{=cs}bert_mlm_head.mlm_transform.ffn.ffn.0.linear_layer.weight"),
        Fact("nsp", "cls.seq_relationship.weight", "{=cs}bert_cls_head.classifier.ffn.0.linear_layer.weight"),
        Fact("head", "{h:classifier|qa_outputs}.weight", "{=cs}classifier.weight"),
        Fact("qa", "qa_outputs.weight", ""),
        Fact("pooler", "{=hf}pooler.dense.weight", f"{TRUNK}{POOLER}.weight"),
    ),
    axes={"i": "layers"},
)  # fmt: skip
