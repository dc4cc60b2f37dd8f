"""Rows for the factors of BTLM and Jais: those that muP leaves in a trained model, and that of ALiBi's distances.

Facts: ModelZoo release 2.10.0, ``layers/AttentionLayer.py``, ``layers/AlibiPositionEmbeddingLayer.py``,
``models/nlp/gpt2/gpt2_model.py``; transformers' side: see :mod:`.hf_classes.hub`. Both scale the scores once more by
the root of a head's size only where they scale them at all. A yaml with muP's base sizes says the same factors in other
fields; only that of the scores has none on transformers' side.
"""

from __future__ import annotations

import math
from typing import Any

from convkit.config import Answer, ConfigError, Coupled, Field, Row
from convkit.config.rows import Together
from convkit.mappings.cerebras.mup import BASES, STATED, Scales, is_mup, stated_of

Values = dict[str, Any]

#: where yamls have the width that muP's learning rates were found at, over the model's own
WIDTH = "/optimizer.adjust_learning_rate.decoder_kernel"


def _logits_to_cerebras(whole: str = "") -> Together:
    def to_right(values: Values, names: Values) -> Answer:
        if names["mup"]:  # other fields say it
            return Answer()
        width, scale = values.get("mup_width_scale", 1.0), values.get(whole)
        scale = values.get("mup_output_alpha", 1.0) * width if scale is None else scale
        return Answer({"output_logits_scale": scale, WIDTH: width})

    return to_right


def _logits_to_hf(values: Values, names: Values) -> Answer:
    if names["mup"]:
        width = values[BASES[0]] / names["hidden"]
        alpha = values.get("output_logits_alpha") or 1.0
        by_d = values.get("scale_output_logits_by_d", True)
        return Answer({"mup_width_scale": width, "mup_output_alpha": alpha if by_d else alpha / math.sqrt(width)})
    width, scale = values.get(WIDTH, 1.0), values.get("output_logits_scale") or 1.0
    if isinstance(width, bool) or not isinstance(width, int | float) or not width:
        raise ConfigError(f"is {width!r}", key=WIDTH[1:], remedy="it must be a number, and not 0")
    return Answer({"mup_width_scale": width, "mup_output_alpha": _quotient(scale, width)})


def _quotient(product: float, factor: float) -> float:
    """The shortest number whose product with the factor is this one."""
    exact = product / factor
    rounded = (float(f"{exact:.{digits}g}") for digits in range(1, 18))
    return next((one for one in rounded if one * factor == product), exact)


def _distances_to_cerebras(values: Values, names: Values) -> Answer:
    scaling = values.get("alibi_scaling")
    if scaling is None:
        return Answer({"pos_scaling_factor": 1.0})
    factor = scaling.get("factor")
    if scaling.get("type") != "linear" or factor is None or scaling.get("train_seq_len") is not None:
        problem, remedy = f"is {scaling}", "ModelZoo has linear scaling by a fixed factor: type and factor"
        raise ConfigError(problem, key="alibi_scaling", remedy=remedy)
    return Answer({"pos_scaling_factor": factor})


def _distances_to_hf(values: Values, names: Values) -> Answer:
    factor = values.get("pos_scaling_factor", 1.0)
    if factor < 1:
        raise ConfigError(f"is {factor}", key="pos_scaling_factor", remedy="transformers' model takes 1 or more")
    return Answer({"alibi_scaling": None if factor == 1 else {"type": "linear", "factor": float(factor)}})


def scales(*whole: str) -> tuple[Row, ...]:
    """The rows. ``whole`` is a field of transformers' side that has the whole factor of the logits, if there is one."""
    return (
        Field("mup_embeddings_scale", "embeddings_scale", null=1.0),
        Field("scale_attn_weights", "attention_type", values=((True, "scaled_dot_product"), (False, "dot_product"))),
        Field("mup_scale_qk_dot_by_d", "scale_qk_dot_by_d", null=lambda names: names["mup"]),
        Coupled(
            ("mup_output_alpha", "mup_width_scale", *whole),
            ("output_logits_scale", WIDTH, *BASES, "output_logits_alpha", "scale_output_logits_by_d"),
            _logits_to_cerebras(*whole),
            _logits_to_hf,
        ),
        Coupled(("alibi_scaling",), ("pos_scaling_factor",), _distances_to_cerebras, _distances_to_hf),
    )


_ALPHA = "attention_logits_alpha"
_FIELDS = (*BASES, "output_logits_scale")
_BASED = (*_FIELDS, _ALPHA, "output_logits_alpha", "scale_output_logits_by_d", "scale_qk_dot_by_d", "embeddings_scale")


class Expressed(Scales, frozen=True):
    """Scales that transformers' model has too: a model stays as it is, tied or not."""

    @property
    def first(self) -> Coupled:
        """See :attr:`Scales.first`; without base sizes, other rows convert the fields."""

        def mup(values: Values, names: Values) -> Answer:
            return Answer(names={"mup": any(values.get(base) for base in BASES) and is_mup(values)})

        return Coupled((), _FIELDS, super().first.to_right, mup)

    @property
    def last(self) -> Coupled:
        """See :attr:`Scales.last`; what multiplies the scores is in the keys."""

        def factors(values: Values, names: Values) -> Answer:
            alpha, stated = values.get(_ALPHA), stated_of(values, names["tied"])
            ones = dict.fromkeys(("mup_head", "mup_words", "mup_norm"), 1.0)
            return Answer(names={**ones, "mup_key": 1.0 if alpha is None else alpha, STATED: stated})

        fields = (*_BASED, "share_embedding_weights")
        return Coupled((), fields, super().last.to_right, factors, when="mup")
