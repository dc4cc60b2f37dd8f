"""DPR and DRAGON, whose recorded configs are those of both encoders."""

from __future__ import annotations

from typing import Any

from config_deviations.deviation import NO_ACTIVATION, TANH_GELU, Deviation

MODELS: dict[str, dict[str, Any]] = {"dpr": {}, "dragon": {}}
PACKED = {name: ((f"hf/{name}-biencoder", "cerebras/dpr-biencoder"), ("q_encoder", "ctx_encoder")) for name in MODELS}
#: what the original writes for every BERT, which DPR's class takes without using it
LEFT_OUT = {"mlm_nonlinearity", "share_embedding_weights"}

NOT_OURS = "the hub's name of the authors' model, and ties of a head that no encoder has"
ONE_BERT = "DPRModelConfig's encoders are BERTs; the original's yamls of DRAGON have the whole model's name in each"
ONE_PROJECTION = "pooler_type is that of both encoders: the original claims a pooler that ModelZoo's model won't have"
LOOSE = "DPRModelConfig has no such field, only its encoders have: it is listed"
ONE_ENCODER = "ModelZoo's class rejects it beside two encoders"

# fmt: off
DEVIATIONS = (
    Deviation("dpr", "back: *", {"_name_or_path": None, "tie_word_embeddings": None}, NOT_OURS),
    Deviation("dpr", "cs:*", {"_name_or_path": None, "tie_word_embeddings": None}, NOT_OURS),
    Deviation("dragon", "*", {"name": "bert_model"}, ONE_BERT),
    Deviation("*", '?:hidden_act="gelu_pytorch_tanh"', {"encoder_nonlinearity": "gelu_new"}, TANH_GELU),
    Deviation("*", '*hidden_act="*glu"', "refuse", NO_ACTIVATION),
    Deviation("*", '*hidden_act="not_an_act"', "refuse", NO_ACTIVATION),
    Deviation("*", "*hidden_act=null", "refuse", NO_ACTIVATION),
    Deviation("dpr", "*1:projection_dim=24", "refuse", ONE_PROJECTION),
    Deviation("*", "cs:use_biencoder=false", "refuse", ONE_ENCODER),
    Deviation("dragon", 'cs:pooler_type="bogus"', "refuse", "neither side has such a pooler"),
    Deviation("*", "cs:+mup_base_hidden_size=12", "accept", LOOSE),
    Deviation("*", "cs:+scale_qk_dot_by_d=true", "accept", LOOSE),
    Deviation("*", "cs:mup2*", "accept", LOOSE),
)
# fmt: on
