"""hf/roberta <-> cerebras/roberta: a BERT whose positions are counted from the padding's id on, with the head for
masked words or none. ModelZoo runs it in BERT's class, and its yamls have BERT's name.

transformers' head has the exact GELU, whatever the encoder's activation is.

Facts: ModelZoo release 2.10.0, ``tools/checkpoint_converters/roberta.py`` (rules of cs-2.1 ... cs-2.9),
``models/nlp/bert``, ``layers/EmbeddingLayer.py``; transformers, ``models/roberta``.
"""

from __future__ import annotations

from convkit.config import Constant, Field
from convkit.mapping import Derived, Fact, under
from convkit.mappings.cerebras import encoder as mz
from convkit.mappings.cerebras.classes.bert import BERT_PRETRAINING
from convkit.mappings.cerebras.common import ACTIVATIONS, Cs, Hf
from convkit.mappings.cerebras.encoder import (
    BERT_LAYER,
    SIZES,
    TIED,
    embeddings,
    encoder,
    masked_words,
)
from convkit.mappings.cerebras.hf_classes.bert import ROBERTA_CONFIG
from convkit.mappings.cerebras.padded_positions import counted_from_padding
from convkit.mappings.cerebras.tasks import Head, Heads, Task, tables_of_segments

# fmt: off
PRETRAINING = Task("pretrained", "bert", BERT_PRETRAINING, "bert_encoder.")
NO_TASKS = "ModelZoo has RoBERTa with the head for masked words only"
HEADS = Heads(
    (  # leaves  transformers                        ModelZoo
        Head("head", "RobertaForSequenceClassification", NO_TASKS),
        Head("mlm",  "RobertaForMaskedLM",               PRETRAINING),
        Head("",     "RobertaModel",                     PRETRAINING),
    ),
    facts=(
        Fact("mlm", "lm_head.dense.weight", f"{mz.MLM}.ffn.ffn.0.linear_layer.weight"),
        Fact("head", "{h:classifier|classifier.dense|qa_outputs}.weight", f"{mz.CLASSIFIER}.weight"),
    ),
)
ROWS = (
    *SIZES, TIED,
    counted_from_padding(rows=512, pad=1),
    Field("hidden_act", "encoder_nonlinearity", "act", values=ACTIVATIONS),
    Constant("right", "mlm_nonlinearity", "gelu", default=lambda names: names["act"]),
    tables_of_segments,
    Constant("right", "disable_nsp", True),
    Constant("right", "pooler_nonlinearity", "tanh", default="tanh"),  # without a pooler
)

MAPPING = encoder(
    Hf("roberta", ("RobertaModel", "RobertaForMaskedLM"), ROBERTA_CONFIG, "roberta.",
       "embeddings.word_embeddings.weight", "lm_head.decoder", {"norm": "post", "positions": "after the padding's id"}),
    Cs("roberta", "BERT with RoBERTa's positions", BERT_PRETRAINING,
       {"norm": "post", "positions": "after the padding's id"}, yaml="bert",
       unnamed={"model.position_embedding_type": (None, "learned")},
       fields={"model.mask_padding_in_positional_embed": True}),
    "encoder.layer.{i}.", BERT_LAYER, heads=HEADS, rows=ROWS, norm="embeddings.LayerNorm",
    rest=(*under("{=hf}embeddings.", mz.TRUNK, embeddings("positions", "segments")),
          *masked_words("lm_head.dense", "lm_head.layer_norm", "lm_head.bias", "lm_head.decoder"),
          Derived("left", "{=hf}embeddings.position_ids", "positions", {"n": "positions"})),
)
