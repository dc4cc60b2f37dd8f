"""What becomes of fields that no row reads: nothing that has an effect is passed over in silence."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import Any

from convkit.config.classes import ABSENT, EVERY_VALUE, REQUIRED, ClassField, ConfigClass, computed
from convkit.config.sides import Source, Target
from convkit.config.tree import MISSING, dig
from convkit.config.values import shown
from convkit.errors import ConfigError


def judge(source: Source, target: Target, seen: AbstractSet[str]) -> tuple[str, ...]:
    """The fields that the source's class doesn't know, of those in its section that no row has read.

    Raises:
        ConfigError: no row has read a field of the class, and its value or default has an effect, or its value is of
            another kind than the field's.
    """
    cls = source.cls
    if cls is None:
        return ()
    inside = _above(seen)
    looked = seen | inside
    unknown = [
        path
        for path, value in _unread(source, source.section, seen, inside)
        if not _is_known(source, target, cls, path, value)
    ]
    for name in source.section:
        field = cls.find(name)
        if field and source.whole(name) in seen:
            unknown += _unknown_parts(source, seen, name, dict(field.kind.parts))
    for path, field in cls.fields.items():
        if field.neutral is not EVERY_VALUE and not _standing(source, looked, (path, *field.also)):
            default = computed(field.default_in(source.release), source.names)
            named = default not in (REQUIRED, ABSENT) and field.in_release(source.release)
            if named and _has_effect(source, field, default):
                raise _refusal(source, target, path, default, field)
    return tuple(unknown)


def _above(paths: AbstractSet[str]) -> set[str]:
    """The paths of the sections in which these lie."""
    return {path[:end] for path in paths for end, sign in enumerate(path) if sign == "."}


def _is_known(source: Source, target: Target, cls: ConfigClass, path: str, value: Any) -> bool:
    """Whether the class has a field that no row has read, or its section.

    Raises:
        ConfigError: it has, and the value has an effect, or can't be a value of the field.
    """
    field, section = cls.find(path), cls.find(path.partition(".")[0])
    if field is None and section is not None and value is not None:
        raise _refusal(source, target, path, value, ClassField(default=ABSENT))
    if field is not None and _has_effect(source, field, source.exact(path, value)):
        raise _refusal(source, target, path, value, field)
    return field is not None or section is not None


def _has_effect(source: Source, field: ClassField, value: Any) -> bool:
    return source.applies(field) and not field.is_neutral(value, source.release, source.names)


def _unknown_parts(source: Source, seen: AbstractSet[str], name: str, known: Mapping[str, Any]) -> Iterator[str]:
    """The parts of a section that its kind doesn't know, where it knows some."""
    section = source.section[name]
    for part in section if known and isinstance(section, dict) else ():
        if part not in known and source.whole(f"{name}.{part}") not in seen:
            yield f"{name}.{part}"


def _standing(source: Source, looked: AbstractSet[str], spellings: Iterable[str]) -> bool:
    """Whether a field stands in the config, or was looked for, or a part of it."""
    return any(source.whole(path) in looked or dig(source.section, path) is not MISSING for path in spellings)


def _unread(
    source: Source, section: Mapping[str, Any], seen: AbstractSet[str], inside: AbstractSet[str], prefix: str = ""
) -> Iterator[tuple[str, Any]]:
    """The paths and values that no row has read; a section of which a part was read, or declared, field by field."""
    declared = source.cls.within if source.cls else lambda name: iter(())
    for name, value in section.items():
        path = f"{prefix}{name}"
        whole = source.whole(path)
        if whole in seen:
            continue
        parts = whole in inside or next(declared(path), None) is not None
        if isinstance(value, dict) and parts:
            yield from _unread(source, value, seen, inside, f"{path}.")
        elif isinstance(value, list) and parts:
            for place, one in enumerate(value):
                if isinstance(one, dict) and f"{whole}.{place}" not in seen:
                    yield from _unread(source, one, seen, inside, f"{path}.{place}.")
        else:
            yield path, value


def _refusal(source: Source, target: Target, path: str, value: Any, field: ClassField) -> ConfigError:
    whose = target.cls.name if target.cls else "the other side"
    neutral = field.neutral_in(source.release, source.names)
    nothing = neutral in (REQUIRED, ABSENT, EVERY_VALUE)
    return ConfigError(
        f"is {shown(value)}: {field.why or f'{whose} has no counterpart'}",
        key=path,
        remedy=f"only a model without it can be converted to {whose}"
        if nothing
        else f"{whose} is always as if it were {shown(neutral)}: convert to the family of the checkpoint",
    )
