"""hf/bert <-> cerebras/bert, for every task: the heads are recognised by their leaves (``HEADS``).

No ModelZoo release has a class for question answering; the keys are those of its converter. The bias of transformers'
MLM decoder has two names; tied models save neither the decoder's weight nor the second name of its bias.

Facts: ModelZoo release 2.10.0, ``tools/checkpoint_converters/bert.py`` and ``bert_finetune.py`` (rules of
cs-2.1 ... cs-2.9), ``models/nlp/bert``; transformers, ``models/bert``.
"""

from __future__ import annotations

from convkit.config import ABSENT, Constant, Field, Written
from convkit.mapping import Derived, Fact, Measure, Rule, under
from convkit.mappings.cerebras import encoder as mz
from convkit.mappings.cerebras.classes.bert import BERT_PRETRAINING, BERT_SEQUENCE, BERT_TOKEN
from convkit.mappings.cerebras.common import Cs, Hf
from convkit.mappings.cerebras.encoder import BERT_LAYER, SIZES, TIED, activations, embeddings, encoder, masked_words
from convkit.mappings.cerebras.hf_classes.bert import BERT_CONFIG
from convkit.mappings.cerebras.tasks import Head, Heads, Task, labels, problem_type, segments, span

# fmt: off
HEADS_LEAVES = (
    *masked_words("cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm", "cls.predictions.bias",
                  "cls.predictions.decoder"),
    Rule("cls.seq_relationship.{p:weight|bias}", f"{mz.NSP}.{{p}}", "c ... -> c ...", c=2, when="nsp & !headless"),
    Rule("classifier.{p:weight|bias}", f"{mz.CLASSIFIER}.{{p}}", "c ... -> c ...", c="labels",
         when="head & !qa & !headless"),
    Rule("qa_outputs.{p:weight|bias}", f"{mz.CLASSIFIER}.{{p}}", "c ... -> c ...", c=2, when="head & qa & !headless"),
)

PRETRAINING = Task("pretrained", "bert", BERT_PRETRAINING, "bert_encoder.", rows=(
    segments,
    Written("right", "freeze_ffn_bias_in_glu", False),
))
SPAN = Task("qa", "bert", BERT_PRETRAINING, "bert.", rows=(span,))
SEQUENCE = Task("sequence", "bert/classifier", BERT_SEQUENCE, "bert.", ("num_labels", "problem_type", "task_dropout"), (
    labels("num_labels"),
    problem_type,
    Field("classifier_dropout", "task_dropout", right_default=ABSENT, null=lambda names: names["dropout"]),
))
TOKEN = Task("token", "bert/token_classifier", BERT_TOKEN, "bert.", (
    "num_classes", "encoder_output_dropout_rate", "include_padding_in_loss"), (
    labels("num_classes"),
    Field("classifier_dropout", "encoder_output_dropout_rate", right_default=ABSENT,
          null=lambda names: names["dropout"]),
    Written("right", "loss_weight", 1.0),
    Written("right", "include_padding_in_loss", False),
))
HEADS = Heads(
    (  # leaves            transformers                     ModelZoo
        Head("head qa",        "BertForQuestionAnswering",      SPAN),
        Head("head pooler",    "BertForSequenceClassification", SEQUENCE),
        Head("head",           "BertForTokenClassification",    TOKEN),
        Head("head pooler",    "BertForMultipleChoice",         "Cerebras has no multiple-choice head"),
        Head("mlm nsp pooler", "BertForPreTraining",            PRETRAINING),
        Head("mlm",            "BertForMaskedLM",               PRETRAINING),
        Head("nsp pooler",     "BertForNextSentencePrediction", PRETRAINING),
        Head("pooler",         "BertModel",                     PRETRAINING),
    ),
    facts=(
        Fact("mlm", "cls.predictions.transform.dense.weight", f"{mz.MLM}.ffn.ffn.0.linear_layer.weight"),
        Fact("nsp", "cls.seq_relationship.weight", f"{mz.NSP}.weight"),
        Fact("head", "{h:classifier|qa_outputs}.weight", f"{mz.CLASSIFIER}.weight"),
        Fact("qa", "qa_outputs.weight", ""),
        Fact("pooler", "{=hf}pooler.dense.weight", f"{mz.ANY_TRUNK}{mz.POOLER}.weight",
             "a base model may have no pooler"),
    ),
)
ROWS = (
    *SIZES, TIED,
    Field("max_position_embeddings", "max_position_embeddings", "positions"),
    Field("position_embedding_type", "position_embedding_type", values=(("absolute", "learned"),)),
    activations,
    Constant("right", "pooler_nonlinearity", "tanh", default=lambda names: names["act"] if names["pooled"] else "tanh"),
)

MAPPING = encoder(
    Hf("bert", ("BertModel and its BertFor...",), BERT_CONFIG, "bert.", "embeddings.word_embeddings.weight",
       "cls.predictions.decoder", {"norm": "post"}),
    Cs("bert", "BERT: pre-training, sequence and token classification", BERT_PRETRAINING, {"norm": "post"},
       ("bert/classifier", "bert/token_classifier"), {
        "model.position_embedding_type": (None, "learned")}, {"model.mask_padding_in_positional_embed": (None, False)}),
    "encoder.layer.{i}.", BERT_LAYER, heads=HEADS, rows=ROWS, norm="embeddings.LayerNorm",
    rest=(*under("{=hf}embeddings.", mz.TRUNK, embeddings("positions", 2)), *HEADS_LEAVES,
          Derived("left", "{=hf}embeddings.position_ids", "positions", {"n": "positions"})),
    measures=(Measure("labels", ("classifier.weight", 0), (f"{mz.CLASSIFIER}.weight", 0)),),
)
