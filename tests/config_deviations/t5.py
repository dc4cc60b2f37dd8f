"""T5, under all names that the original has for it."""

from __future__ import annotations

from typing import Any

from config_deviations.deviation import Deviation

MODELS: dict[str, dict[str, Any]] = {"t5": {}, "ul2": {}, "flan-ul2": {}, "transformer": {}}

GATED = {"encoder_nonlinearity": "geglu", "decoder_nonlinearity": "geglu"}
BY_ATTRIBUTES = "transformers builds the layers by dense_act_fn and is_gated_act, which the config has too"

# fmt: off
DEVIATIONS = (
    Deviation("t5", '*feed_forward_proj*', GATED, BY_ATTRIBUTES),
    Deviation("t5", 'back: feed_forward_proj="gelu_new"', "refuse", "2.10's T5 has no activation of that name"),
    Deviation("t5", "position_embedding_type=null", "accept", "null says that the model has none but its own"),
    Deviation("t5", "num_decoder_layers=null", {"decoder_num_hidden_layers": 2}, "null means as many as the encoder's"),
    Deviation("t5", "back: num_decoder_layers=null", {"num_decoder_layers": 2}, "null means as many as the encoder's"),
    Deviation("t5", "cs:+mup_base_hidden_size=12", "accept", "muP of T5 has fields of other names: it is listed"),
    Deviation("t5", "cs:+mup_base_hidden_size=12", {"tie_word_embeddings": True}, "T5's muP has fields of other names"),
    Deviation("t5", "cs:mup2[23]", "accept", "muP of T5 has fields of other names: these are listed"),
    Deviation("t5", "cs:+scale_qk_dot_by_d=true", "accept", "muP of T5 has fields of other names: it is listed"),
    Deviation("t5", "cs:mup-t5", "refuse", "one base size of muP without the other, which the class refuses"),
    Deviation("t5", "cs:mqa-noextra", "refuse", "transformers' T5 shares no keys: the original drops that"),
    Deviation("*ul2", "", "accept", "the original's registry lacks a name that its converter lists"),
    Deviation("transformer", "*", {"name": "t5"}, "the class has the same fields under both names", "cs-2.[4-9]"),
)
# fmt: on
