"""Rows for the factors of BTLM and Jais: those that muP leaves in a trained model, and that of ALiBi's distances.

Facts: ModelZoo release 2.10.0, ``layers/AttentionLayer.py``, ``layers/AlibiPositionEmbeddingLayer.py``,
``models/nlp/gpt2/gpt2_model.py``; transformers' side: see :mod:`.hf_classes.hub`. Both scale the scores once more by
the root of a head's size only where they scale them at all.
"""

from __future__ import annotations

from typing import Any

from convkit.config import Answer, ConfigError, Coupled, Field, Row
from convkit.config.rows import Together

Values = dict[str, Any]

#: where yamls have the width that muP's learning rates were found at, over the model's own
WIDTH = "/optimizer.adjust_learning_rate.decoder_kernel"


def _logits_to_cerebras(whole: str = "") -> Together:
    def to_right(values: Values, names: Values) -> Answer:
        width, scale = values.get("mup_width_scale", 1.0), values.get(whole)
        scale = values.get("mup_output_alpha", 1.0) * width if scale is None else scale
        return Answer({"output_logits_scale": scale, WIDTH: width})

    return to_right


def _logits_to_hf(values: Values, names: Values) -> Answer:
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
        Field("mup_scale_qk_dot_by_d", "scale_qk_dot_by_d", null=False),
        Coupled(
            ("mup_output_alpha", "mup_width_scale", *whole),
            ("output_logits_scale", WIDTH),
            _logits_to_cerebras(*whole),
            _logits_to_hf,
        ),
        Coupled(("alibi_scaling",), ("pos_scaling_factor",), _distances_to_cerebras, _distances_to_hf),
    )
