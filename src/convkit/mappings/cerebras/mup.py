"""muP: factors by which ModelZoo's model multiplies what transformers' model must find multiplied in its weights.

A muP model has base sizes in its yaml, or, up to release 2.2, three fields together. Its embeddings, keys and logits
are multiplied by numbers that follow from them: :func:`folded` multiplies the leaves instead. The embeddings and the
head get different factors, so the model is untied on transformers' side. From transformers, nothing is multiplied: a
model is muP only where a receipt says that it was (:data:`STATED`).

Facts: ModelZoo release 2.10.0, ``models/nlp/gpt2/gpt2_model.py``, ``models/nlp/gptj/gptj_model.py``,
``models/nlp/bert/{bert_model,bert_pretrain_models}.py``, ``layers/AttentionLayer.py``; base sizes came with 2.3, and
its classes demand both since 2.4. Where a yaml doesn't say ``scale_qk_dot_by_d``, it is true for muP, except in the
GPT-J class since 2.4.
"""

from __future__ import annotations

import math
import struct
from collections import abc
from collections.abc import Callable
from typing import Any

from msgspec import Struct

from convkit.config import Answer, ConfigClass, ConfigError, Coupled, Row
from convkit.mapping import Folded

Values = dict[str, Any]

BASES = ("mup_base_hidden_size", "mup_base_filter_size")
#: the three fields of a muP model up to release 2.2
TRIO = ("output_logits_scale", "embeddings_scale", "scale_qk_dot_by_d")
_BY_D, _SHARED = "scale_qk_dot_by_d", "share_embedding_weights"
#: what shows a muP model, and what its factors are computed from beside that
_SIGNS = (*BASES, "output_logits_scale", _BY_D)
_FACTORS = ("embeddings_scale", "attention_logits_alpha", "output_logits_alpha", "scale_output_logits_by_d")

#: all fields of muP
FIELDS = (*_SIGNS, *_FACTORS)

#: the declared name of the fields of the yaml that a muP model had, which the way back recalls
STATED = "mup_stated"


def folded(leaves: abc.Mapping[str, tuple[str, ...]]) -> tuple[Folded, ...]:
    """The rules of the leaves that a muP model's factors are folded into, by the name of the factor."""
    return tuple(
        Folded("right", key, arguments={"factor": name}, when="mup") for name, keys in leaves.items() for key in keys
    )


def both(values: Values, bases: tuple[str, ...] = BASES) -> bool:
    """Whether a yaml has muP's base sizes.

    Raises:
        ConfigError: it has one of them, or one that isn't a size.
    """
    there = [field for field in bases if values.get(field)]
    for field in there:
        if values[field] <= 0:
            raise ConfigError(f"is {values[field]}", key=field, remedy="a base size is more than 0: correct the yaml")
    for field in bases:
        if there and field not in there:
            remedy = "muP has both base sizes: add this one, or remove the other"
            raise ConfigError(f"is missing, but {there[0]} is {values[there[0]]}", key=field, remedy=remedy)
    return bool(there)


def is_mup(values: Values) -> bool:
    """Whether fields of a yaml, which has them as far as they are given, are of a muP model.

    Raises:
        ConfigError: they are of one in part.
    """
    if both(values):
        if values.get("output_logits_scale"):
            problem = f"is {values['output_logits_scale']} beside {BASES[0]}"
            raise ConfigError(problem, key="output_logits_scale", remedy="a muP model has one or the other: remove one")
        return True
    signs = [field for field in ("output_logits_scale", _BY_D) if values.get(field)]
    if len(signs) == 1:
        (sign,) = signs
        remedy = f"muP has {' and '.join(BASES)}, or {', '.join(TRIO)}: complete them, or remove this one"
        raise ConfigError(f"is {values[sign]}, but other fields of muP are missing", key=sign, remedy=remedy)
    return bool(signs)


def head_factor(values: Values, width: float, by_d: bool = True) -> float:
    """What multiplies the logits of a model that is ``width`` times as wide as its base; ``by_d`` is a default."""
    alpha = values.get("output_logits_alpha") or 1.0
    return alpha / (width if values.get("scale_output_logits_by_d", by_d) else math.sqrt(width))


def stated_of(values: Values, tied: bool) -> Values:
    """The fields by which a muP yaml comes back."""
    return {**{field: value for field, value in values.items() if field != "name"}, _SHARED: tied}


class Scales(Struct, frozen=True):
    """What differs between the classes whose models are scaled.

    Attributes:
        cls: ModelZoo's class.
        embeddings: the name of the factor of the embeddings: of their tables, or of the norm behind them.
        own: what transformers' model multiplies its embeddings by itself, from the declared names.
        head: the declared name of a model whose logits are scaled; empty: they always are.
    """

    cls: ConfigClass
    embeddings: str = "mup_words"
    own: Callable[[Values], float] = lambda names: 1.0
    head: str = ""

    @property
    def first(self) -> Coupled:
        """The row that declares ``mup``; rows that hold only for other models may stand after it."""
        return Coupled((), self._known(_SIGNS), was_mup, lambda values, names: Answer(names={"mup": is_mup(values)}))

    @property
    def last(self) -> Coupled:
        """The row that declares the factors of a muP model, and that it is untied; or writes its fields again."""
        fields = self._known((*_SIGNS, *_FACTORS, _SHARED, "name"))
        return Coupled((), fields, lambda values, names: Answer(names[STATED]), self._factors, when="mup")

    @property
    def rows(self) -> tuple[Row, ...]:
        """Both rows, where none stands between them."""
        return self.first, self.last

    def _known(self, fields: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(field for field in fields if field in self.cls.fields)

    def _factors(self, values: Values, names: Values) -> Answer:
        scale = values.get("embeddings_scale")
        if values.get(BASES[0]):
            head = head_factor(values, names["hidden"] / values[BASES[0]])
        else:
            head = values["output_logits_scale"]
            if not scale:
                remedy = f"a muP model has all of {', '.join(TRIO)}: add it"
                raise ConfigError("is missing", key="embeddings_scale", remedy=remedy)
        factors = {
            "mup_head": head if names.get(self.head, True) else 1.0,
            "mup_key": self._of_keys(values, names),
            **dict.fromkeys(("mup_words", "mup_norm"), 1.0),
            self.embeddings: quotient(1.0 if scale is None else scale, self.own(names)),
        }
        stated = stated_of(values, names["tied"])
        return Answer({"tie_word_embeddings": False}, {**factors, "tied": False, STATED: stated})

    def _of_keys(self, values: Values, names: Values) -> float:
        alpha = values.get("attention_logits_alpha")
        factor = 1.0 if alpha is None else alpha
        by_d = values.get(_BY_D, self._by_d(names["release"] if "name" in values else (2, 3)))  # named since 2.4
        if by_d is None:
            by_d = bool(values.get(BASES[0]))
        scaled = names.get("scale_attn_weights", True)
        size = names.get("head_dim") or names["hidden"] // names["heads"]
        return factor / math.sqrt(size) if by_d and scaled else factor

    def _by_d(self, release: tuple[int, ...]) -> bool | None:
        default: bool | None = self.cls.fields[_BY_D].default_in(release)
        return default


def quotient(scale: float, own: float) -> float:
    """One factor over another; 1 if they are the same number as the models have them, in float32."""
    return 1.0 if struct.pack("f", scale) == struct.pack("f", own) else scale / own


def was_mup(values: Values, names: Values) -> Answer:
    """Declare whether the model comes back to what was muP."""
    return Answer(names={"mup": bool(names.get(STATED))})
