"""hf/<family> <-> cerebras/dpo-<family>, and cerebras/<family> <-> that: a model as direct preference optimization
trains it. The policy is trained, and the reference is the model that it started as.

Facts: ModelZoo releases 2.1 ... 2.10, ``models/nlp/dpo/model.py`` (``policy_model`` in yamls since 2.4; the flat form
stays readable) and ``tools/checkpoint_converters/dpo.py``. The families are those of 2.10's ``DPOModelConfig``.
"""

from __future__ import annotations

from collections import abc
from collections.abc import Iterator
from copy import deepcopy
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from msgspec.structs import replace

from convkit.config import (
    ABSENT,
    SECTION,
    TEXT,
    Classes,
    ClassField,
    ConfigClass,
    ConfigTable,
    Constant,
    Rest,
    Row,
    Written,
)
from convkit.config.classes import free
from convkit.config.conversion import Conversion
from convkit.config.tree import dig
from convkit.mapping import AnyRule, Derived, Layout, LeftBehind, Mapping, Part, Rule, Variant
from convkit.mapping.declaration import Which
from convkit.mappings.cerebras.common import MODEL_AT, NOT_THE_MODEL
from convkit.mappings.cerebras.decoder import PREFIX, WORDS
from convkit.mappings.cerebras.in_place import InPlace

FAMILIES = ("bloom", "falcon", "gpt2", "gptj", "gpt-neox", "llama", "mistral", "mixtral", "santacoder", "starcoder")

POLICY, REFERENCE = "{=whole}policy_model.model.", "{=whole}ref_model.model."
#: ModelZoo stores the whole below ``model``; bare state dicts don't
WHOLE = Variant("whole", "right", ("model.", ""), POLICY + WORDS.removeprefix("{=cs}"))
BESIDE = LeftBehind("right", "{rest:*}", NOT_THE_MODEL.reason, unless="{=whole}")
BOTH = Part(
    "right",
    "the reference model",
    (REFERENCE + "{at:*}",),
    POLICY + "{at:*}",
    lack="a model may be trained without a reference",
)
#: the value of ``dpo`` in a yaml that is made
TRAINING = {"beta": 0.1, "reference_free": False}


def dpo(of: Mapping) -> Mapping:
    """The mapping between the left side of a language model's mapping and its right side as DPO trains it."""
    return replace(
        of,
        right=_layout(of.right),
        rules=(*(moved for rule in of.rules if rule is not NOT_THE_MODEL for moved in _moved(rule)), BESIDE),
        config=_Table(
            rows=(*(row for row in of.config.rows if row.places() != {("right", "name")}), *_naming(of.right)),
            left=of.config.left,
            right=_classes(of.config.right),
            left_at=of.config.left_at,
            right_at=_PLACES,
            policy=_names(of.right)[0],
        ),
        variants=(WHOLE, *(_fixed(variant) for variant in of.variants)),
        facts=tuple(fact.under("", POLICY) for fact in of.facts),
        measures=tuple(measure.under("", POLICY) for measure in of.measures),
        parts=(*(_of_policy(part) for part in of.parts), BOTH),
    )


def _layout(of: Layout) -> Layout:
    family = of.name.partition("/")[2]
    named = ({"model.name": name, "model.model_name": family} for name in ("dpo", None))
    return replace(
        of,
        name=f"cerebras/dpo-{family}",
        summary=f"{of.summary}, as DPO trains it",
        by_name=True,
        signature=(*named, {"model.name": "dpo", "model.policy_model.name": of.signature[0]["model.name"]}),
    )


def _moved(rule: AnyRule) -> tuple[AnyRule, ...]:
    """A rule whose right leaves are the policy's, and the reference's their copies."""
    policy, reference = rule.under("", POLICY), rule.under("", REFERENCE)
    if isinstance(policy, Rule) and isinstance(reference, Rule):
        return (policy.changed(right_copies=reference.right),)
    if isinstance(policy, Derived) and isinstance(reference, Derived):
        reference = reference.changed(of=policy.of)  # the reference's other leaves are copies of these
    return tuple(dict.fromkeys((policy, reference)))


def _fixed(variant: Variant) -> Variant:
    """Both models lie without a prefix of their own."""
    return variant.changed(choices=("",), probe="") if variant.name == PREFIX.name else variant


def _of_policy(part: Part) -> Part:
    """A part of the model is one of the policy; what belongs to training lies beside both."""
    return part.under("", POLICY) if "{=cs}" in "".join((*part.keys, part.beside)) else part


def between(of: Mapping) -> Mapping:
    """The mapping between ModelZoo's layout of a language model and the same as DPO trains it. The policy and the
    reference start as the model, whose keys and fields keep their names; the policy comes back.
    """
    return Mapping(
        left=of.right,
        right=_layout(of.right),
        rules=(*_MODEL, NOT_THE_MODEL.inverse(), BESIDE),
        config=_InPlace(
            rows=(Constant("left", "name", _names(of.right)[0], also=_names(of.right)), *_naming(of.right), _Fields()),
            left=of.config.right,
            right=_classes(of.config.right),
            left_at=MODEL_AT,
            right_at=_PLACES,
            policy=_names(of.right)[0],
        ),
        variants=(PREFIX.inverse(), WHOLE),
        parts=(*_ANY, BOTH),
    )


def _kept(key: str, optional: bool = True) -> Rule:
    """The rule of leaves that keep their names below both models."""
    below = key.removeprefix("{=cs}")
    return Rule(key, POLICY + below, right_copies=REFERENCE + below, optional=optional)


_MODULES = ("transformer_decoder", "ln_f", "lm_head", "embedding_ln_f", "embedding_layer.position_{what:*}")
_MODEL = (_kept(WORDS, optional=False), *(_kept(f"{{=cs}}{module}.{{rest:*}}") for module in _MODULES))
_SIDES: tuple[tuple[Which, str], ...] = (("left", "{=cs}"), ("right", POLICY))
_ANY = tuple(
    Part(side, "the model's leaves", (key,), lack="which leaves it has is a matter of its own conversions")
    for side, at in _SIDES
    for key in (at + rule.left[0].removeprefix("{=cs}") for rule in _MODEL[1:])
)


# --- configs -----------------------------------------------------------------------------------------------

#: where a yaml has the model's fields: below ``policy_model``, or flat beside DPO's own
_INSIDE = ".policy_model"
_PLACES = (*(f"{place}{_INSIDE}" for place in MODEL_AT), *MODEL_AT)
#: the fields of DPO in a flat yaml
_OWN: dict[str, ClassField] = {
    "name": free(TEXT, ABSENT),
    "model_name": free(TEXT, ABSENT),
    "dpo": free(SECTION),
}


def _names(of: Layout) -> tuple[str, ...]:
    """The names of a family in yamls."""
    named = of.signature[0]["model.name"]
    return named if isinstance(named, tuple) else (named,)


def _naming(of: Layout) -> tuple[Row, ...]:
    names = _names(of)
    return (
        Constant("right", "name", "dpo", also=names),  # below policy_model it is the family's
        Constant("right", "model_name", names[0]),
        Written("right", "dpo", TRAINING),
    )


def _classes(of: Classes) -> Classes:
    """The classes of the model, with DPO's own fields."""
    if isinstance(of, ConfigClass):
        return ConfigClass(f"DPOModelConfig of a {of.name}", of.source, {**of.fields, **_OWN})
    return tuple((when, ConfigClass(one.name, one.source, {**one.fields, **_OWN})) for when, one in of or ())


class _Table(ConfigTable, frozen=True):
    """A table whose right side may have the model's fields below ``policy_model``; they are written flat. ``policy`` is
    the family's name in yamls.
    """

    policy: str = ""

    @property
    def written_at(self) -> str:
        """See :attr:`ConfigTable.written_at`."""
        return self.left_at[0] if self.reverse else MODEL_AT[0]

    def placed(self, config: dict[str, Any], earlier: abc.Mapping[str, Any]) -> None:
        """See :meth:`ConfigTable.placed`; below ``policy_model`` the model has its own name, and DPO's fields are
        beside it.
        """
        super().placed(config, earlier)
        for place in MODEL_AT:
            inside = dig(config, f"{place}{_INSIDE}")
            if isinstance(inside, dict):
                inside["name"] = self.policy
                inside.pop("model_name", None), inside.pop("dpo", None)
                whole = dig(earlier, place)
                dig(config, place).update({name: deepcopy(whole[name]) for name in ("name", "dpo") if name in whole})


class _InPlace(_Table, InPlace, frozen=True):
    """The same between two layouts of ModelZoo."""

    def kept_at(self, config: abc.Mapping[str, Any]) -> str:
        """See :meth:`InPlace.kept_at`."""
        return super().kept_at(config).removesuffix(_INSIDE)


class _Fields(Rest, frozen=True):
    """The model's fields, all but DPO's own."""

    def convert(self, run: Conversion) -> None:
        """See :meth:`Rest.convert`."""
        for name, value in run.source.section.items():
            path = run.source.whole(name)
            if path not in run.source.seen and name not in _OWN:
                run.target.write(name, value)
                run.source.seen.add(path)


# --- all of them -------------------------------------------------------------------------------------------


def _language_models() -> Iterator[Mapping]:
    """The mappings of the families that DPO trains."""
    package = __name__.rpartition(".")[0]
    for module in iter_modules(import_module(package).__path__, f"{package}."):
        if not module.ispkg and module.name != __name__:
            of = getattr(import_module(module.name), "MAPPING", None)
            if isinstance(of, Mapping) and of.right.name.partition("/")[2] in FAMILIES:
                yield of


def _all() -> Iterator[Mapping]:
    found = tuple(_language_models())
    yield from map(dpo, found)
    yield from map(between, {of.right.name: of for of in found}.values())


MAPPINGS = tuple(_all())
