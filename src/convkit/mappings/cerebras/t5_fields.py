"""What T5's configs say in several fields: the activation, whether the head is tied, the size of the vocabulary.

Facts: ModelZoo release 2.10.0, ``models/nlp/t5`` (``extra_ids`` come on top of ``src_vocab_size``; both stacks have the
encoder's activation); transformers, ``models/t5/configuration_t5.py``: ``dense_act_fn`` and ``is_gated_act`` go before
``feed_forward_proj`` in a config that has them, and ``gated-gelu`` alone means the tanh approximation; transformers 5
says by ``scale_decoder_outputs`` what ``tie_word_embeddings`` said.
"""

from __future__ import annotations

from typing import Any

from convkit.config import Answer, ConfigError, Coupled, Deviation, Field

Values = dict[str, Any]

TANH = "ModelZoo's T5 has the exact GELU, and not its tanh approximation"
ALIKE = "transformers has one field for both"
TIES_ANYWAY = "there is no lm_head.weight: the embedding is the head, as in transformers 5"
#: transformers' names of other functions that are, nearly or exactly, one that ModelZoo's T5 has
LIKE = dict.fromkeys(("gelu_new", "gelu_pytorch_tanh", "gelu_fast"), "gelu") | {"swish": "silu"}
#: ModelZoo's activation -> transformers'
TO_HF = {"relu": "relu", "gelu": "gelu", "reglu": "gated-relu", "geglu": "gated-gelu", "swiglu": "gated-silu"}
TO_CEREBRAS = {hf: cs for cs, hf in TO_HF.items()}


def _known(name: str, known: dict[str, str], field: str) -> str:
    if name not in known:
        raise ConfigError(f"{name!r} has no counterpart", key=field, remedy=f"known: {', '.join(known)}")
    return known[name]


def _activation_to_cerebras(values: Values, names: Values) -> Answer:
    stated = values.get("feed_forward_proj", "relu")
    act = values.get("dense_act_fn", "gelu_new" if stated == "gated-gelu" else stated.removeprefix("gated-"))
    gated = values.get("is_gated_act", stated.startswith("gated-"))
    meant = LIKE.get(act, act)
    near = (Deviation("dense_act_fn", act, meant, TANH),) if meant == "gelu" != act else ()
    cs = _known(
        "gated-" * gated + meant, TO_CEREBRAS, "dense_act_fn" if "dense_act_fn" in values else "feed_forward_proj"
    )
    fields = {"encoder_nonlinearity": cs, "decoder_nonlinearity": cs}
    return Answer(fields, {"gated": gated}, deviations=near, defaults={"feed_forward_proj": stated})


def _activation_to_hf(values: Values, names: Values) -> Answer:
    act = values.get("encoder_nonlinearity", "relu")
    if values.get("decoder_nonlinearity") not in (None, act):
        problem = f"is {values['decoder_nonlinearity']!r}, the encoder's {act!r}"
        raise ConfigError(problem, key="decoder_nonlinearity", remedy=ALIKE)
    fields = {"feed_forward_proj": _known(act, TO_HF, "encoder_nonlinearity")}
    if act == "geglu":  # else it would be the approximation
        fields["dense_act_fn"] = "gelu"
    return Answer(fields, {"gated": act.endswith("glu")}, defaults={"encoder_nonlinearity": act})


def _ties_to_cerebras(values: Values, names: Values) -> Answer:
    ties = values.get("tie_word_embeddings") is not False
    by_5 = "scale_decoder_outputs" in values  # it ties where there is no head, whatever the config says
    claims = {} if ties or by_5 else {"lm_head.weight": "tie_word_embeddings = False"}
    headless = by_5 and not values["scale_decoder_outputs"] and names.get("head") == "shared"
    warnings = (TIES_ANYWAY,) if headless else ()
    return Answer(names={"ties": ties}, defaults={"tie_word_embeddings": True}, claims=claims, warnings=warnings)


def _ties_to_hf(values: Values, names: Values) -> Answer:
    ties = values.get("share_embedding_weights", True)
    claims = {} if ties else {f"{names.get('cs', '')}lm_head.weight": "share_embedding_weights = False"}
    return Answer({"tie_word_embeddings": ties}, claims=claims)


def _vocabulary_to_cerebras(values: Values, names: Values) -> Answer:
    size = values.get("vocab_size", 32128)
    return Answer({"src_vocab_size": size, "extra_ids": 0}, {"vocab": size}, defaults={"vocab_size": size})


def _vocabulary_to_hf(values: Values, names: Values) -> Answer:
    source = values.get("src_vocab_size", 32128)
    if values.get("tgt_vocab_size") not in (None, source):
        problem = f"is {values['tgt_vocab_size']}, src_vocab_size {source}"
        raise ConfigError(problem, key="tgt_vocab_size", remedy=ALIKE)
    size = source + (values.get("extra_ids") or 0)
    return Answer({"vocab_size": size}, {"vocab": size}, defaults={"src_vocab_size": source})


#: declares ``gated``
ACTIVATION = Coupled(
    ("feed_forward_proj", "dense_act_fn", "is_gated_act"),
    ("encoder_nonlinearity", "decoder_nonlinearity"),
    _activation_to_cerebras,
    _activation_to_hf,
)
#: declare ``tied``: the head is the embedding, and the hidden states are scaled before it
TIED = (
    Coupled(
        ("tie_word_embeddings", "scale_decoder_outputs"), ("share_embedding_weights",), _ties_to_cerebras, _ties_to_hf
    ),
    Field("scale_decoder_outputs", "share_embedding_weights", "tied", left_default=lambda names: names["ties"]),
)
#: declares ``vocab``
VOCABULARY = Coupled(
    ("vocab_size",), ("src_vocab_size", "tgt_vocab_size", "extra_ids"), _vocabulary_to_cerebras, _vocabulary_to_hf
)
