"""The rows of Gemma's scales: of the embeddings, and of the scores of attention.

Both sides multiply float32 numbers, so two scales are the same where they are as float32: ModelZoo's own yamls have the
root of the hidden size with nine digits.

Facts: ModelZoo 2.10.0, ``tools/checkpoint_converters/gemma2.py``, ``layers/AttentionLayer.py``
(``attention_logits_alpha``); transformers, ``models/gemma2`` (a whole number is demanded by its config class).
"""

from __future__ import annotations

import math
import struct
from functools import partial
from typing import Any

from convkit.config import Answer, ConfigError, Coupled

Values = dict[str, Any]


def _is_root(values: Values, names: Values) -> Answer:
    scale, root = values.get("embeddings_scale", 1.0), math.sqrt(names["hidden"])
    if scale is None or struct.pack("f", scale) != struct.pack("f", root):
        raise ConfigError(
            f"is {scale}", key="embeddings_scale", remedy=f"transformers has the root of hidden_size, {root}"
        )
    return Answer()


def _scalar_to_cerebras(usual: int, values: Values, names: Values) -> Answer:
    taken = {} if values else {"query_pre_attn_scalar": usual}
    scalar = (values or taken)["query_pre_attn_scalar"]
    alpha = {} if scalar == names["head_dim"] else {"attention_logits_alpha": math.sqrt(names["head_dim"] / scalar)}
    return Answer(alpha, defaults=taken)


def _alpha_to_hf(values: Values, names: Values) -> Answer:
    alpha = values.get("attention_logits_alpha")
    scalar = names["head_dim"] / (1.0 if alpha is None else alpha or math.inf) ** 2
    whole = round(scalar)
    if whole < 1 or (alpha or 1) < 0 or not math.isclose(scalar, whole, rel_tol=1e-9):
        remedy = f"query_pre_attn_scalar would be {scalar:g}, but transformers takes positive whole numbers only"
        raise ConfigError(f"is {alpha}", key="attention_logits_alpha", remedy=remedy)
    return Answer({"query_pre_attn_scalar": whole})


def _of_heads(values: Values, names: Values) -> Answer:
    return Answer({"query_pre_attn_scalar": names["head_dim"]})


#: embeddings that are multiplied by the root of the hidden size
ROOT = Coupled(
    (),
    ("embeddings_scale",),
    lambda values, names: Answer({"embeddings_scale": math.sqrt(names["hidden"])}),
    _is_root,
    when="!mup",
)


def query_scale(usual: int) -> tuple[Coupled, ...]:
    """The rows of scores that are divided by the root of a number, where others are by that of the size of a head.

    A muP model's are divided by that of a head's, and what else multiplies them is in its keys. ``usual`` is
    transformers' default for that number.
    """
    field, alpha = ("query_pre_attn_scalar",), ("attention_logits_alpha",)
    return (
        Coupled(field, alpha, partial(_scalar_to_cerebras, usual), _alpha_to_hf, when="!mup"),
        Coupled(field, (), lambda values, names: Answer(), _of_heads, when="mup"),
    )
