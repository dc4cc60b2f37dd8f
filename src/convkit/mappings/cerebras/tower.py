"""A vision transformer as a part of another model: no head, and on ModelZoo's side no prefix of its own."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from convkit.config import Answer, ConfigClass, Coupled, Name, Row, Written
from convkit.config.rows import Place
from convkit.mapping import LeftBehind, Mapping, Rule
from convkit.mappings.cerebras.classes.llava import VIT_MODEL
from convkit.mappings.cerebras.common import NOT_THE_MODEL
from convkit.mappings.cerebras.vision import HEAD

#: what the keys of ModelZoo's vision transformer begin with where it stands alone
_ALONE = "{=cs}vit_model."
#: fields of a head, of the class that stands alone, and of training alone
_LEFT_OUT: tuple[Place, ...] = (
    ("left", "architectures"),
    ("left", "projection_dim"),
    ("right", "name"),
    ("right", "num_classes"),
    ("right", "use_bias_in_output"),
    ("right", "fp16_type"),
)


def tower(of: Mapping, base: str, hf: ConfigClass) -> Mapping:
    """The mapping of a vision transformer as a part.

    Args:
        of: the mapping of the vision transformer that stands alone.
        base: transformers' class of the base model.
        hf: transformers' config class, in which no field is of a head.
    """
    rules = tuple(
        rule.changed(right=tuple(key.removeprefix(_ALONE) for key in rule.right)) if isinstance(rule, Rule) else rule
        for rule in of.rules
        if rule is not NOT_THE_MODEL and not _of_head(rule)
    )
    return replace(
        of,
        rules=rules,
        config=replace(
            of.config,
            rows=(
                Name("headless", lambda names: True),
                Written("left", "architectures", [base]),
                _CLASSES,
                *(row for row in of.config.rows if not row.places() & set(_LEFT_OUT)),
            ),
            left=hf,
            right=VIT_MODEL,
        ),
        variants=tuple(variant for variant in of.variants if variant.side == "left"),
        facts=(),
        measures=(),
        parts=(),
    )


def _of_head(rule: Any) -> bool:
    keys = rule.right if isinstance(rule, Rule) else (rule.key,) if isinstance(rule, LeftBehind) else ()
    return any(key.startswith(HEAD) for key in keys)


def _projected(values: dict[str, Any], names: dict[str, Any]) -> Answer:
    return Answer({"projection_dim": values["num_classes"]} if "num_classes" in values else {})


#: a yaml of ModelZoo's converter has the size of a projection that isn't there
_CLASSES: Row = Coupled((), ("num_classes",), lambda values, names: Answer(), _projected)
