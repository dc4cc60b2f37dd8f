"""ModelZoo's GPT-J class, of decoders whose attention and feed-forward parts run side by side: GPT-J, GPT-NeoX,
Falcon.

Facts: ``models/nlp/gptj/gptj_model.py`` (``GPTJSubModelConfig``), ``models/nlp/gptj/model.py`` (``GPTJModelConfig``);
2.2 and 2.3: ``models/nlp/gptj/config.py``; 2.1.1: ``transformers/pytorch/gptj/model.py``.
"""

from __future__ import annotations

from msgspec.structs import replace

from convkit.config.classes import ClassField, ConfigClass, free
from convkit.config.values import ANYTHING, FLAG, NUMBER, RATE, TEXT, WHOLE
from convkit.mappings.cerebras.classes import MUP
from convkit.mappings.cerebras.classes.gpt2 import COMMON

GPTJ = ConfigClass("GPTJModelConfig", "ModelZoo 2.10.0, models/nlp/gptj, GPTJModelConfig", COMMON | {
    "position_embedding_type": ClassField(TEXT.or_null, "rotary"),
    "use_untied_layer_norm": ClassField(FLAG, False),
    "use_ffn_bias": ClassField(FLAG, False),
    "residual_dropout_rate": free(RATE, 0.1, also=("dropout_rate",)),
    "embedding_dropout_rate": free(RATE.or_null, 0.1, also=("embd_pdrop",)),
    "attention_dropout_rate": free(RATE.or_null, 0.1),
    "embedding_layer_norm": ClassField(FLAG, False, since=(2, 2), until=(2, 4)),
    "position_embedding_offset": ClassField(WHOLE, 0, beside=("position_embedding_type", "learned", "fixed"),
                                        since=(2, 2), until=(2, 4)),
    "num_relative_attention_buckets": ClassField(WHOLE.or_null, None, 32,
                                                 beside=("position_embedding_type", "relative")),
    "initializer": free(ANYTHING, also=("attention_initializer",)),
    "attention_kernel": free(TEXT.or_null, since=(2, 3)),
    "boundary_casting": free(FLAG.or_null, False, since=(2, 2), until=(2, 4)),
    "lr_adjustment_groups": replace(COMMON["lr_adjustment_groups"], since=(2, 4)),
    "scale_qk_dot_by_d": ClassField(FLAG.or_null, False, since=(2, 3), moved=(((2, 4), None),), why=MUP),
    "embeddings_scale": ClassField(NUMBER.or_null, 1.0, since=(2, 3), why=MUP),
})  # fmt: skip

GPT_NEOX = ConfigClass("GPTNeoXModelConfig", "ModelZoo 2.10.0, models/nlp/gptj/model.py", GPTJ.fields)
FALCON = ConfigClass("FalconModelConfig", "ModelZoo 2.10.0, models/nlp/falcon/model.py", GPTJ.fields)
