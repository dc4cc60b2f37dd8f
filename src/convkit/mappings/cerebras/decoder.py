"""Decoders with ModelZoo's module names: a family adds its layer and its fields.

Facts: ModelZoo release 2.10.0, ``models/nlp/gpt2/gpt2_model.py``, ``models/nlp/gptj/gptj_model.py``,
``layers/TransformerDecoder.py``: the names of the modules, and the final norm under two names.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from convkit.config import Answer, ConfigTable, Coupled, Field, Flag, Row, Written
from convkit.mapping import AnyRule, Fact, LeftBehind, Mapping, Part, Rule, Variant, under
from convkit.mapping.declaration import Which
from convkit.mappings.cerebras.common import (
    HALF_TYPE,
    MODEL_AT,
    NO_BIASES,
    NOT_THE_MODEL,
    OPTIMIZER,
    Cs,
    Hf,
    K,
    vocabulary,
)
from convkit.mappings.cerebras.mup import STATED, Scales, folded

# --- names of leaves ---------------------------------------------------------------------------------------

WORDS, HEAD = "{=cs}embedding_layer.word_embeddings.weight", "{=cs}lm_head.weight"
POSITIONS = "{=cs}embedding_layer.position_embeddings.embed.weight"
SLOPES = "{=cs}embedding_layer.position_embed_helper.slopes"
LAYER = "{=cs}transformer_decoder.layers.{i}."
#: what a muP model's factors are folded into
SCALED = folded(
    {
        "mup_head": ("{=cs}lm_head.{p:weight|bias}",),
        "mup_words": (WORDS, POSITIONS),
        "mup_norm": ("{=cs}embedding_ln_f.{p:weight|bias}",),
        "mup_key": (f"{LAYER}{K}.{{p:weight|bias}}",),
    }
)
#: the norms before attention and before the feed-forward part
NORM1, NORM2 = "norm1", "norm3"

#: ModelZoo stores the model below ``model``; its wrapper classes add one more ``model``; bare
#: state dicts have neither.
PREFIX = Variant("cs", "right", ("model.", "model.model.", ""), WORDS)


def final_norm(hf: str, **more: Any) -> Rule:
    """The rule of the norm after the last layer; ``hf`` is its name below the base model, with or without ``{p}``."""
    p = "{p}" if "{p:" in hf else "weight"
    names = (f"{{=cs}}transformer_decoder.norm.{p}", f"{{=cs}}ln_f.{p}")
    return Rule("{=hf}" + hf, names, "d -> d", d="hidden", **more)


# --- rows --------------------------------------------------------------------------------------------------

#: the fields that most of transformers' classes call by these names
SIZES: tuple[Row, ...] = (
    Field("vocab_size", "vocab_size", "vocab"),
    Field("hidden_size", "hidden_size", "hidden"),
    Field("num_hidden_layers", "num_hidden_layers", "layers"),
    Field("num_attention_heads", "num_heads", "heads"),
    Field("max_position_embeddings", "max_position_embeddings", "positions"),
    Field("initializer_range", "initializer_range"),
    Field("tie_word_embeddings", "share_embedding_weights", "tied"),
)


class Bias(Struct, frozen=True):
    """A flag of both configs that the tensors decide: whether modules of the layers have biases, all of them or none.

    ``fact`` is the declared name; ``hf`` and ``cs`` are the modules' names in a layer; ``loose`` is as for the flag.
    """

    left: str
    right: str
    fact: str
    hf: str
    cs: str
    loose: Which | None = None

    @property
    def flag(self) -> Flag:
        """The row of its flags."""
        return Flag(self.left, self.right, self.fact, loose=self.loose)

    def shown(self, left: str) -> Fact:
        """The fact, if layers of transformers' side lie below ``left``."""
        return Fact(self.fact, f"{left}{self.hf}.bias", f"{LAYER}{self.cs}.bias", NO_BIASES)

    @property
    def parts(self) -> tuple[Part, ...]:
        """The biases of each side."""
        modules: tuple[tuple[Which, str], ...] = (("left", self.hf), ("right", self.cs))
        return tuple(
            Part(side, "biases", (f"{module}.bias",), f"{module}.weight", lack=NO_BIASES) for side, module in modules
        )


#: what transformers' classes have beside the base model, by the end of their names: the fact of a language model, or
#: the leaf of another head
CLASSES_HEADS = (
    ("ForCausalLM", "lm_head"),
    ("LMHeadModel", "lm_head"),
    ("DoubleHeadsModel", "lm_head"),
    ("ForSequenceClassification", "score.weight"),
    ("ForTokenClassification", "score.weight"),
    ("ForQuestionAnswering", "qa_outputs.weight"),
)
UNSHARED = "tie_word_embeddings = False"
UNTIED = "there is no output head, and the embeddings aren't tied: no lm_head is written"


def _head_of_class(architectures: list[str] | None, base: str, full: str, prefix: str) -> dict[str, str]:
    """What the class in a config has beside the base model; without a class, the base model's keys have no prefix."""
    if not architectures:
        return {} if prefix == "" else {"lm_head": ""}
    if base in architectures:
        return {}
    named = ((one, head) for one in architectures for end, head in CLASSES_HEADS if one == full or one.endswith(end))
    one, head = next(named, ("", ""))
    return {head: f"architectures = {one}"} if one else {}


def _head_to_cerebras(base: str, full: str) -> Any:
    def to_right(values: dict[str, Any], names: dict[str, Any]) -> Answer:
        if names.get("lm_head", True):
            return Answer(names={"headless": False})
        architectures = values.get("architectures")
        asked = bool(names.get("headless"))
        claims = {} if asked else _head_of_class(architectures, base, full, names.get("hf", ""))
        if not names["tied"]:
            claims = {fact: " and ".join(filter(None, (words, UNSHARED))) for fact, words in claims.items()}
            return Answer(names={"headless": True}, warnings=(UNTIED,), claims=claims)
        claims.pop("lm_head", None)  # it is the embedding
        headless = base in architectures if architectures else names.get("hf") == ""
        return Answer(names={"headless": headless}, claims=claims)

    return to_right


def _head_to_hf(values: dict[str, Any], names: dict[str, Any]) -> Answer:
    has_head = names["tied"] or names.get("lm_head", True)
    asked = names.get("headless", False)
    claims = {} if has_head or asked else {"lm_head": "share_embedding_weights = False"}
    return Answer(names={"headless": asked or not has_head}, claims=claims)


def output_head(base: str, full: str) -> tuple[Row, ...]:
    """Rows that choose transformers' base model or its language model with an output head. The base model is chosen if
    the user asks for it, or if there is no head to write.
    """
    return (
        Coupled(("architectures",), (), _head_to_cerebras(base, full), _head_to_hf),
        Written("left", "architectures", lambda names: [base if names["headless"] else full]),
    )


class _HeadBias(Struct, frozen=True):
    """What the bias of an output head adds; a base model has neither. ``field`` is its flag in both configs."""

    field: str
    hf: str
    cs: str = "{=cs}lm_head.bias"

    @property
    def rules(self) -> tuple[AnyRule, ...]:
        return (
            Rule(self.hf, self.cs, "v -> v", v="vocab", when="head_bias & !headless"),
            LeftBehind("right", self.cs, "a base model has no output head", when="headless"),
        )

    @property
    def rows(self) -> tuple[Row, ...]:
        return (Flag(self.field, self.field, "head_bias", left_default=lambda names: not names["headless"]),)

    @property
    def facts(self) -> tuple[Fact, ...]:
        return (Fact("head_bias", self.hf, self.cs, NO_BIASES),)


# --- the mapping -------------------------------------------------------------------------------------------


def decoder(
    hf: Hf,
    cs: Cs,
    layers: str,
    layer: tuple[AnyRule, ...],
    *,
    rest: tuple[AnyRule, ...],
    rows: tuple[Row | Bias, ...],
    head_bias: str = "",
    parts: tuple[Part, ...] = (),
    scales: Scales | None = None,
) -> Mapping:
    """The mapping of a decoder: word embeddings and an output head, which may be tied; layers; and what a family adds.

    Args:
        hf: transformers' side.
        cs: ModelZoo's side.
        layers: the prefix of a layer in transformers' base model, with the placeholder ``{i}``.
        layer: the rules of a layer, whose prefixes are added here, as to ``parts``.
        rest: rules of the leaves beside them, with whole keys.
        rows: the rows of the config, except for those that all decoders have. They declare ``vocab``, ``hidden``,
            ``layers`` and ``tied``, and all that the rules use.
        head_bias: the field of both configs that says whether the output head has a bias; empty if it never has one.
        scales: how the class scales a muP model, if not as usual.
    """
    left = "{=hf}" + layers
    biases = tuple(row for row in rows if isinstance(row, Bias))
    parts = (*(part for row in biases for part in row.parts), *parts)
    bias = _HeadBias(head_bias, f"{hf.head}.bias") if head_bias else None
    return Mapping(
        left=hf.layout,
        right=cs.layout,
        rules=(
            *vocabulary("{=hf}" + hf.words, f"{hf.head}.weight", WORDS, HEAD),
            LeftBehind("right", HEAD, "a base model has no output head", when="!tied & headless"),
            *under(left, LAYER, layer),
            *rest,
            *(bias.rules if bias else ()),
            *SCALED,
            NOT_THE_MODEL,
        ),
        config=ConfigTable(
            rows=(*_rows(hf, cs, rows, scales or Scales(cs.config)), *(bias.rows if bias else ())),
            left=hf.config_classes,
            right=cs.config,
            right_at=MODEL_AT,
        ),
        variants=(Variant("hf", "left", (hf.base, ""), "{=hf}" + hf.words, headless=""), PREFIX),
        facts=(
            Fact("lm_head", f"{hf.head}.weight", HEAD, "a base model has no output head"),
            *(bias.facts if bias else ()),
            *(row.shown(left) for row in biases),
        ),
        axes={"i": "layers"},
        parts=(*(part.under(left, LAYER) for part in parts), OPTIMIZER),
        recalled=(STATED,),
    )


def _rows(hf: Hf, cs: Cs, rows: tuple[Row | Bias, ...], scales: Scales) -> tuple[Row, ...]:
    """The rows of every decoder, and those of the family."""
    return (
        hf.typing,
        cs.naming,
        scales.first,
        *(row.flag if isinstance(row, Bias) else row for row in rows),
        HALF_TYPE,
        scales.last,
        *output_head(*hf.classes),
    )
