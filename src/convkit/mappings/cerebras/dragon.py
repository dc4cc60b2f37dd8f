"""hf/dragon <-> cerebras/dragon: one encoder of DRAGON, which is a plain BERT in transformers, and DPR's in ModelZoo.

Neither keys nor config of the BERT say what it encodes: the variant ``which`` does, or the receipt. Its pooler
isn't used. It is taken for ``hf/bert`` unless ``cerebras/dragon`` is asked for.

Facts: ModelZoo release 2.10.0, ``tools/checkpoint_converters/dragon_plus.py`` (rules of cs-2.3 ... cs-2.9),
``models/nlp/dpr``; transformers, ``models/bert``.
"""

from __future__ import annotations

from msgspec.structs import replace

from convkit.config import ABSENT, ConfigTable, Constant, Field, Written
from convkit.mapping import Mapping, Variant
from convkit.mappings.cerebras import bert, dpr
from convkit.mappings.cerebras import encoder as mz
from convkit.mappings.cerebras.classes.bert import DPR_ENCODER
from convkit.mappings.cerebras.common import MODEL_AT, NOT_THE_MODEL, OPTIMIZER, Cs
from convkit.mappings.cerebras.hf_classes.bert import BERT_CONFIG

CS = Cs(
    "dragon",
    "one encoder of DRAGON",
    DPR_ENCODER,
    {"norm": "post"},
    ("BertModel", "dpr"),
    yaml="bert_model",
    fields={"model.add_pooling_layer": None, "model.q_encoder": None, "model.encoder": None},  # of whole models
    since=(2, 3),
)

# fmt: off
MAPPING = Mapping(
    left=replace(bert.MAPPING.left, name="hf/dragon", summary="transformers BertModel of DRAGON's", by_name=True),
    right=CS.layout,
    rules=(*dpr.rules("{=hf}"), NOT_THE_MODEL),
    config=ConfigTable(
        (Constant("left", "model_type", "bert"), Constant("right", "name", "bert_model", also=("BertModel", "dpr")),
         Written("left", "architectures", ["BertModel"]), *dpr.ROWS,
         Field("tie_word_embeddings", "share_embedding_weights", right_default=ABSENT),
         Constant("right", "pooler_nonlinearity", "tanh", default="tanh")),  # without a pooler
        left=BERT_CONFIG, right=DPR_ENCODER, right_at=MODEL_AT,
    ),
    variants=(
        Variant("hf", "left", ("", "bert."), "{=hf}embeddings.word_embeddings.weight"),
        *dpr.variants("{=hf}"),
        Variant("which", "right", tuple(dpr.ENCODERS), dpr.TRUNK + mz.WORDS),
    ),
    axes={"i": "layers"},
    parts=(OPTIMIZER,),
)
