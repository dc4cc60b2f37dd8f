"""cerebras/<family> -> the same model in muP, with the base sizes that are asked for: ``--mup-base``.

The yaml gets the fields of muP, and the weights are divided by the factors that follow from them, so that the model
computes what it did. The factors are those by which the family's own mapping would multiply the weights on their way
back to transformers. The head and the embeddings get different ones, so that a tied model is untied.
"""

from __future__ import annotations

import math
from collections import abc
from copy import deepcopy
from typing import Any

from msgspec.structs import replace

from convkit.config import ConfigError, ConfigTable, Rest, Row
from convkit.config.conversion import Conversion
from convkit.config.tree import plant
from convkit.errors import UsageError
from convkit.mapping import Folded, Mapping, Rule, Variant, Verbatim
from convkit.mapping.rescaling import ASKED, Rescaling
from convkit.mapping.rules import Refused
from convkit.mappings.cerebras.common import MODEL_AT
from convkit.mappings.cerebras.in_place import InPlace
from convkit.mappings.cerebras.mup import BASES, FIELDS
from convkit.mappings.cerebras.t5_mup import BASES as T5_BASES
from convkit.mappings.cerebras.t5_mup import FIELDS as T5_FIELDS

#: what base sizes are called where they are asked for
SHORT = {
    "hidden": BASES[0],
    "filter": BASES[1],
    "d_model": T5_BASES[0],
    "d_ff": T5_BASES[1],
    "d_kv": "mup_base_d_kv",
}
_SHARED, _ALPHA = "share_embedding_weights", "attention_logits_alpha"
MOMENTS = "the moments of weights that are divided can't follow them"
#: declared name of a factor, in front of the name that the family's mapping has for it
_MARK = "asked_"


def asked(of: Mapping, fields: abc.Mapping[str, Any]) -> Mapping:
    """The mapping from ModelZoo's side of a family's mapping to the same model in muP.

    Raises:
        UsageError: the family has no muP, or has its factors in its config anyway.
    """
    layout = of.right
    folds = tuple(rule for rule in of.rules if isinstance(rule, Folded) and rule.side == "right")
    if not folds or type(of.config) is not ConfigTable or layout.name in ("cerebras/btlm", "cerebras/jais"):
        raise UsageError(f"--mup-base: {layout.name} can't become muP", remedy="leave it out")
    own = {SHORT.get(field, field): value for field, value in fields.items()}
    if strange := own.keys() - {*FIELDS, *T5_FIELDS}:
        remedy = f"base sizes: {', '.join(SHORT)}; other fields of muP have their own names"
        raise UsageError(f"--mup-base: {min(strange)} isn't a field of muP", remedy=remedy)
    prefixes = tuple(variant for variant in of.variants if variant.side == "right")
    return Mapping(
        left=layout,
        right=layout,
        rules=(
            *(Rule(fold.key, fold.key, optional=True) for fold in folds),
            *(replace(fold, side="left", arguments={"factor": _MARK + _factor(fold)}, when="") for fold in folds),
            Refused("left", "optimizer.{rest:*}", MOMENTS, "leave them out: --drop 'optimizer.*'"),
            Verbatim("{rest:*}"),
        ),
        config=InPlace(
            rows=(_Asked(of.config.inverse(), own, tuple(dict.fromkeys(map(_factor, folds)))), Rest()),
            left=of.config.right,
            right=of.config.right,
            left_at=MODEL_AT,
            right_at=MODEL_AT,
        ),
        variants=tuple(variant for prefix in prefixes for variant in (_kept(prefix), _kept(prefix).inverse())),
        facts=tuple(fact.changed(left=fact.right) for fact in of.facts if fact.right),
        recalled=(ASKED,),
    )


def _factor(fold: Folded) -> str:
    return str(fold.arguments["factor"])


def _kept(prefix: Variant) -> Variant:
    """A prefix as the left side has it, and as the right side keeps it."""
    return prefix.changed(usual=lambda names: names[prefix.name])


class _Asked(Row, frozen=True):
    """The row that adds the fields, or takes them away; it declares the factors of the weights.

    ``table`` is the family's, from ModelZoo to transformers.
    """

    table: ConfigTable
    fields: abc.Mapping[str, Any]
    factors: tuple[str, ...]

    def convert(self, run: Conversion) -> None:
        """See :meth:`Row.convert`."""
        if run.source.which == "right":
            return self._undo(run)
        for field in self.fields:
            if run.source.declared(field) is None:
                raise ConfigError("is asked for, and the model's class hasn't it", key=field, remedy="leave it out")
        had = dict(run.source.section)
        names = self._names(run, had)
        if names.get("mup"):
            remedy = "convert it to transformers first, which makes it an ordinary model"
            raise ConfigError("the model is muP already", key=next(iter(self.fields)), remedy=remedy)
        tied = names["tied"]
        now = had | dict(self.fields) | ({_SHARED: False} if tied else {})
        run.names |= {**names, **self._names(run, now)}
        if not run.names["mup"]:
            remedy = f"give both base sizes: {' and '.join(SHORT)}"
            raise ConfigError("the model wouldn't be muP", key=next(iter(self.fields)), remedy=remedy)
        before = dict.fromkeys(self.factors, 1.0)
        if "mup_key" in before and had.get(_ALPHA) is not None:
            before["mup_key"] = had[_ALPHA]
        if "mup_q" in before and tied:  # T5's hidden states are scaled before a head that is the embedding
            before["mup_head"] = 1 / math.sqrt(names["hidden"])
        run.names |= {_MARK + name: before[name] / run.names[name] for name in self.factors}
        changed = {field: value for field, value in now.items() if field not in had or had[field] is not value}
        kept = {field: had[field] for field in changed if field in had}
        run.names[ASKED] = {"fields": dict(self.fields), "changed": [*changed], "had": kept, **_places(run.names)}
        for field, value in changed.items():
            run.source.read(field)
            run.carry(field, field, value)

    def _undo(self, run: Conversion) -> None:
        known = run.names.get(ASKED, {"changed": [*self.fields], "had": {}})
        run.names |= {name: value for name, value in known.items() if isinstance(value, str)}
        for field in known["changed"]:
            run.source.read(field)
            if field in known["had"]:
                run.target.write(field, known["had"][field])

    def _names(self, run: Conversion, section: abc.Mapping[str, Any]) -> dict[str, Any]:
        """What the family's table declares of a yaml with this section."""
        config: dict[str, Any] = {}
        plant(config, MODEL_AT[0], deepcopy(dict(section)))
        return self.table.convert(config, run.facts, run.release).names


def _places(names: abc.Mapping[str, Any]) -> dict[str, str]:
    """The declared names that keys are made of."""
    return {name: names[name] for name in ("trunk",) if name in names}


RESCALING = Rescaling("cerebras", asked)
