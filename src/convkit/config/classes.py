"""A framework's config class as a table: every field that it has, declared once, from the class's own source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from convkit.config.rows import REQUIRED, Release
from convkit.config.values import ANYTHING, Kind

#: ``neutral``: the field's default has no effect
ITS_DEFAULT: Any = type("ItsDefault", (), {"__repr__": lambda self: "ITS_DEFAULT"})()
#: ``neutral``: no value of the field changes what a trained model computes (dropout, the initializer)
EVERY_VALUE: Any = type("EveryValue", (), {"__repr__": lambda self: "EVERY_VALUE"})()


@dataclass(frozen=True)
class ClassField:
    """One field of a class.

    Attributes:
        kind: the values that it may have.
        default: its value where a config leaves it out, in the current release (a value, or a function of the
            declared names).
        neutral: the value with which it has no effect, or a function that says whether a value has none. A mapping with
            no row for the field refuses any other value by name. None is always neutral.
        beside: (other field, value, ...): the field has an effect only where that other field of the class has one of
            these values (none given: where it isn't None); elsewhere every value is neutral.
        since: the first release whose class has it.
        until: the first release whose class doesn't have it any more.
        moved: former defaults, each with the first release that no longer has it, the oldest first.
        also: other names under which the class reads it (transformers' ``attribute_map``, pydantic's aliases).
        told: whether its default is taken only with a warning, because no tensor could contradict it (heads).
        why: what the field does, for the refusal of a value that isn't neutral.
    """

    kind: Kind = ANYTHING
    default: Any = REQUIRED
    neutral: Any = ITS_DEFAULT
    beside: tuple[Any, ...] = ()
    since: Release = ()
    until: Release = ()
    moved: tuple[tuple[Release, Any], ...] = ()
    also: tuple[str, ...] = ()
    told: bool = False
    why: str = ""


def free(kind: Kind, default: Any = None, **more: Any) -> ClassField:
    """A field of which no value changes what a trained model computes: how to train, to sample, to run it."""
    return ClassField(kind, default, EVERY_VALUE, **more)


@dataclass(frozen=True)
class ConfigClass:
    """A config class: its name for messages, where its source lies, and its fields by name."""

    name: str
    source: str
    fields: Mapping[str, ClassField] = field(hash=False)

    def extended(self, name: str, source: str = "", **fields: ClassField) -> ConfigClass:
        """A subclass: these fields are added, or replace fields of the same name."""
        return ConfigClass(name, source or self.source, {**self.fields, **fields})
