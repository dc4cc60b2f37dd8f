"""A framework's config class as a table: every field that it has, declared once, from the class's own source."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

from msgspec import Struct

from convkit.config.condition import Condition
from convkit.config.tree import same
from convkit.config.values import ANYTHING, Kind

Release = tuple[int, ...]

#: no default: the field is required
REQUIRED: Any = type("Required", (), {"__repr__": lambda self: "REQUIRED"})()
#: the field is left out if the source leaves it out
ABSENT: Any = type("Absent", (), {"__repr__": lambda self: "ABSENT"})()
#: in a row: the default of the side's class
OF_CLASS: Any = type("OfClass", (), {"__repr__": lambda self: "OF_CLASS"})()
#: ``neutral``: the field's default has no effect
ITS_DEFAULT: Any = type("ItsDefault", (), {"__repr__": lambda self: "ITS_DEFAULT"})()
#: ``neutral``: no value of the field changes what a trained model computes (dropout, the initializer)
EVERY_VALUE: Any = type("EveryValue", (), {"__repr__": lambda self: "EVERY_VALUE"})()


def computed(value: Any, names: Mapping[str, Any]) -> Any:
    """A default or a value that may be a function of the declared names."""
    return value(names) if callable(value) else value


class ClassField(Struct, frozen=True):
    """One field of a class.

    Attributes:
        kind: the values that it may have.
        default: its value where a config leaves it out, in the current release (a value, or a function of the
            declared names).
        neutral: the value with which it has no effect, or a function that says whether a value has none. A mapping with
            no row for the field refuses any other value by name. None is neutral where the kind has it.
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

    def in_release(self, release: Release) -> bool:
        """Whether the class of this release has it; no release is the current one."""
        if not release:
            return not self.until
        return release >= self.since and (not self.until or release < self.until)

    def default_in(self, release: Release) -> Any:
        """Its default in this release, not computed yet."""
        return next((old for end, old in self.moved if release and release < end), self.default)

    def neutral_in(self, release: Release, names: Mapping[str, Any]) -> Any:
        """The value that has no effect, or EVERY_VALUE; REQUIRED or ABSENT if there is no single one."""
        if callable(self.neutral):
            return ABSENT
        return computed(self.default_in(release) if self.neutral is ITS_DEFAULT else self.neutral, names)

    def is_neutral(self, value: Any, release: Release, names: Mapping[str, Any]) -> bool:
        """Whether a value has no effect, where the field has one."""
        if callable(self.neutral) and value is not None:
            try:
                return bool(self.neutral(self.kind.read(value)))
            except ValueError:
                return False
        neutral = self.neutral_in(release, names)
        return neutral is EVERY_VALUE or (value is None and self.kind.null) or same(value, neutral)


def free(kind: Kind, default: Any = None, **more: Any) -> ClassField:
    """A field of which no value changes what a trained model computes: how to train, to sample, to run it."""
    return ClassField(kind, default, EVERY_VALUE, **more)


class ConfigClass(Struct, frozen=True, dict=True):
    """A config class: its name for messages, where its source lies, and its fields by name.

    A field within a section may be declared by its dotted path, beside the section.
    """

    name: str
    source: str
    fields: Mapping[str, ClassField]

    def __hash__(self) -> int:
        return hash(self.name)  # dicts have no hash

    def extended(self, name: str, source: str = "", **fields: ClassField) -> ConfigClass:
        """A subclass: these fields are added, or replace fields of the same name."""
        return ConfigClass(name, source or self.source, {**self.fields, **fields})

    @cached_property
    def names(self) -> dict[str, str]:
        """Every spelling of every field, with the field's own name."""
        return {spelling: name for name, one in self.fields.items() for spelling in (name, *one.also)}

    def find(self, path: str) -> ClassField | None:
        """The field at this path, under any of its names."""
        name = self.names.get(path)
        return None if name is None else self.fields[name]

    def within(self, name: str) -> Iterator[str]:
        """The declared fields of a section, by their dotted paths."""
        return (path for path in self.fields if path.startswith(f"{name}."))


#: a side's class, or classes by condition on declared names, of which the first that holds is taken
Classes = ConfigClass | tuple[tuple[str, ConfigClass], ...] | None


def every(classes: Classes) -> tuple[ConfigClass, ...]:
    """All classes that a side may have."""
    if classes is None:
        return ()
    return (classes,) if isinstance(classes, ConfigClass) else tuple(one for _, one in classes)


def chosen(classes: Classes, names: Mapping[str, Any]) -> ConfigClass | None:
    """The class that these declared names choose; None if a name that decides isn't declared yet."""
    if classes is None or isinstance(classes, ConfigClass):
        return classes
    try:
        return next((one for condition, one in classes if Condition.parse(condition).holds(names)), None)
    except KeyError:
        return None
