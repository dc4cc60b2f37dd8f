"""ModelZoo's class of dense passage retrievers: an encoder of questions, one of contexts, and how both are trained.

Facts: ``models/nlp/dpr/model.py`` (``DPRModelConfig``); 2.2 and 2.3: the ``config.py`` there. An encoder has a pooling
layer if ``pooler_type`` says so, whatever its own section says.
"""

from __future__ import annotations

from convkit.config.classes import ABSENT, ClassField, ConfigClass, free
from convkit.config.values import ANYTHING, FLAG, POSITIVE, SECTION, TEXT

DPR = ConfigClass("DPRModelConfig", "ModelZoo 2.10.0, models/nlp/dpr/model.py, DPRModelConfig", {
    "name": free(TEXT, ABSENT, since=(2, 4)),
    "q_encoder": ClassField(SECTION),
    "ctx_encoder": ClassField(SECTION),
    "encoder": ClassField(SECTION.or_null, None, why="one encoder of both questions and contexts"),
    "use_biencoder": ClassField(FLAG, True, since=(2, 3)),
    "pooler_type": ClassField(TEXT, "cls", since=(2, 3)),
    "softmax_temperature": free(POSITIVE, 1.0, since=(2, 3)),
    "mutual_information": free(FLAG, False, since=(2, 3)),
    "scale_similarity": free(FLAG, False, until=(2, 3)),
    "compute_eval_metrics": free(FLAG, False),
    "selected_encoder": free(TEXT.or_null, since=(2, 3)),
    "mixed_precision": free(ANYTHING, until=(2, 5)),
    "fp16_type": free(TEXT.or_null, "bfloat16", until=(2, 5)),
})  # fmt: skip
