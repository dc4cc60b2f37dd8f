"""cerebras/bert-summarization: a BERT that chooses sentences, by a classifier of the tokens before them.

transformers has no such model, so its checkpoints only change their format: leaves and config stay as they are.

Facts: ModelZoo release 2.10.0, ``models/nlp/bert/extractive_summarization`` (one layout in 2.1 ... 2.9), and
``tools/checkpoint_converters/bert_finetune.py``, which converts it from release to release only.
"""

from __future__ import annotations

from msgspec.structs import replace

from convkit.config import ConfigTable
from convkit.mappings import unchanged
from convkit.mappings.cerebras.classes.bert import BERT_SUMMARIZATION
from convkit.mappings.cerebras.common import Cs

CS = Cs(
    "bert-summarization",
    "BERT for extractive summarization",
    BERT_SUMMARIZATION,
    {"norm": "post"},
    yaml="bert/extractive_summarization",
    unnamed={"model.use_cls_bias": (True, False)},
).layout

#: the class says which fields show a yaml without a name; nothing is read of them
_SAME = unchanged(CS)
MAPPING = replace(_SAME, config=ConfigTable(_SAME.config.rows, left=BERT_SUMMARIZATION))
