"""muP of ModelZoo's T5, whose class has formulas of its own.

A muP model's attention is scaled, by the size of a head or its root, where any other T5's isn't. Its queries, keys,
values and outputs have a factor of the width, unless the size of a head grows with it (``mup_base_d_kv``). Embeddings
are multiplied by the root of the width too, and the hidden states before a shared head aren't.

Facts: ModelZoo release 2.10.0, ``models/nlp/t5/{model,t5_model}.py``, ``layers/AttentionLayer.py``.
"""

from __future__ import annotations

import math
from typing import Any

from convkit.config import Answer, ConfigError, Coupled, Row
from convkit.mappings.cerebras.mup import STATED, both, folded, head_factor, stated_of, was_mup

Values = dict[str, Any]

BASES = ("mup_base_d_model", "mup_base_d_ff")
STACKS = ("encoder", "decoder")
_HEADS, _SHARED = "mup_base_d_kv", "share_embedding_weights"
_FACTORS = (
    _HEADS,
    "embeddings_alpha",
    "output_logits_alpha",
    "scale_output_logits_by_d",
    *(f"{stack}_attention_logits_alpha" for stack in STACKS),
    *(f"scale_{stack}_qk_dot_by_d" for stack in STACKS),
)

#: all fields of T5's muP
FIELDS = (*BASES, *_FACTORS)
_MODULES = {"mup_q": "proj_q", "mup_v": "proj_v", "mup_o": "proj_output"}


def _attention(module: str, stacks: tuple[str, ...] = STACKS) -> tuple[str, ...]:
    """A module's weight in these stacks; a decoder's layer has a second attention, to the encoder's output."""
    parts = {"encoder": "self_attn", "decoder": "{a:self_attn|multihead_attn}"}
    return tuple(f"{{=cs}}{stack}.layers.{{i}}.{parts[stack]}.{module}_dense_layer.weight" for stack in stacks)


#: what the factors are folded into
SCALED = folded(
    {
        "mup_head": ("{=cs}lm_head.weight",),
        "mup_words": ("{=cs}{s:encoder|decoder}_embeddings.word_embeddings.weight",),
        **{factor: _attention(module) for factor, module in _MODULES.items()},
        **{f"mup_k_{stack}": _attention("proj_k", (stack,)) for stack in STACKS},
    }
)


def _is_mup(values: Values, names: Values) -> Answer:
    found = both(values, BASES)
    if values.get(_HEADS) and not found:
        problem = f"is {values[_HEADS]}, but {' and '.join(BASES)} are missing"
        raise ConfigError(problem, key=_HEADS, remedy="muP has these base sizes too: add them, or remove this one")
    return Answer(names={"mup": found})


def _factors(values: Values, names: Values) -> Answer:
    width = names["hidden"] / values[BASES[0]]
    part, root = 1.0 if values.get(_HEADS) else width**-0.5, math.sqrt(names["d_kv"])
    alpha = values.get("embeddings_alpha")
    factors = {
        "mup_head": head_factor(values, width, by_d=False),
        "mup_words": (1.0 if alpha is None else alpha) * math.sqrt(names["hidden"]),
        "mup_q": part / root,
        "mup_v": part,
        "mup_o": 1.0 if values.get(_HEADS) else math.sqrt(width),
    }
    for stack in STACKS:
        alpha, by_d = values.get(f"{stack}_attention_logits_alpha"), values.get(f"scale_{stack}_qk_dot_by_d")
        factor = part if alpha is None else alpha * part
        factors[f"mup_k_{stack}"] = factor if by_d is False else factor / root
    untied = {"tie_word_embeddings": False, "scale_decoder_outputs": False}
    stated = stated_of(values, values.get(_SHARED, True))
    return Answer(untied, {**factors, "tied": False, STATED: stated})


#: declare ``mup`` and the factors
ROWS: tuple[Row, ...] = (
    Coupled(
        (),
        (*BASES, _HEADS),
        was_mup,
        _is_mup,
    ),
    Coupled(
        (),
        (*BASES, *_FACTORS, _SHARED),
        lambda values, names: Answer(names[STATED]),
        _factors,
        when="mup",
    ),
)
