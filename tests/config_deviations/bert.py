"""BERT and its tasks."""

from __future__ import annotations

from typing import Any

from config_deviations.deviation import LOST_ATTENTION, NO_ACTIVATION, TANH_GELU, Deviation

#: what the tensors would have shown: the original's user names the model instead
HEADS = {"mlm": False, "nsp": False, "head": False, "qa": False, "pooler": False}
MODELS: dict[str, dict[str, Any]] = {
    "bert": HEADS | {"mlm": True, "nsp": True, "pooler": True},
    "bert-sequence-classifier": HEADS | {"head": True, "pooler": True},
    "bert-token-classifier": HEADS | {"head": True},
    "bert-qa": HEADS | {"head": True, "qa": True},
}

CHOOSY = "ModelZoo's BERT classifiers take gelu, gelu_new, relu and silu only (2.3 ... 2.10)"
LABELS = "transformers builds the head by id2label, whatever num_labels says"
NO_POOLER = "this task has no pooler, so its activation doesn't matter; ModelZoo's own yamls leave it out"
CHOOSY_23 = dict.fromkeys(
    ("initializer_range", "mlm_nonlinearity", "position_embedding_type", "share_embedding_weights")
)

# fmt: off
DEVIATIONS = (
    Deviation("*", "cs:mqa-noextra", "refuse", LOST_ATTENTION),
    Deviation("*", 'hidden_act="gelu_pytorch_tanh"', {"encoder_nonlinearity": "gelu_new"}, TANH_GELU),
    Deviation("*", 'hidden_act="gelu_pytorch_tanh"', {"mlm_nonlinearity": "gelu_new"}, TANH_GELU),
    Deviation("*", 'hidden_act="*glu"', "refuse", NO_ACTIVATION),
    Deviation("*", 'back: hidden_act="*glu"', "refuse", NO_ACTIVATION),
    Deviation("*", 'hidden_act="not_an_act"', "refuse", NO_ACTIVATION),
    Deviation("*", 'back: hidden_act="not_an_act"', "refuse", NO_ACTIVATION),
    Deviation("*", "hidden_act=null", "refuse", NO_ACTIVATION),
    Deviation("*", "back: hidden_act=null", "refuse", NO_ACTIVATION),
    Deviation("bert-*-classifier", 'hidden_act="swish"', {"encoder_nonlinearity": "silu", "mlm_nonlinearity": "silu"},
              "swish is silu, and ModelZoo's classifiers know the second name only (2.3 ... 2.10)"),
    Deviation("bert-*-classifier", 'hidden_act="gelu_fast"', "refuse", CHOOSY),
    Deviation("bert-*-classifier", 'hidden_act="quick_gelu"', "refuse", CHOOSY),
    Deviation("bert-*-classifier", 'hidden_act="tanh"', "refuse", CHOOSY),
    Deviation("bert-*-classifier", 'hidden_act="leaky_relu"', "refuse", CHOOSY),
    Deviation("bert", "*", {"freeze_ffn_bias_in_glu": None}, "the field came with release 2.3", "cs-2.[12]"),
    Deviation("bert-*-classifier", "*", CHOOSY_23, "2.2's and 2.3's classes don't have them; 2.4's do", "cs-2.[123]"),
    Deviation("*", "cs:-max_position_embeddings", "refuse",
              "BertModelConfig has no default, and transformers' 512 needn't be the table's length"),
    Deviation("bert-sequence-classifier", "num_labels=*", {"num_labels": 3}, LABELS),
    Deviation("bert-token-classifier", "num_labels=2", {"num_classes": 5}, LABELS),
    Deviation("bert-qa", "num_labels=5", "accept", LABELS),
    Deviation("bert-sequence-classifier", "cs:-num_labels", "refuse", "the head's size is unknown"),
    Deviation("bert-token-classifier", "cs:-num_classes", "refuse", "the head's size is unknown"),
    Deviation("bert-sequence-classifier", 'cs:problem_type="bogus"', "refuse", "transformers knows three problems"),
    Deviation("bert-token-classifier", "cs:-pooler_nonlinearity", "accept", NO_POOLER),
    Deviation("bert-qa", "cs:-pooler_nonlinearity", "accept", NO_POOLER),
)
# fmt: on
