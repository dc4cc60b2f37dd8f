"""What becomes of fields that no row reads: nothing that has an effect is passed over in silence."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import Any

from convkit.config.classes import ABSENT, EVERY_VALUE, REQUIRED, ClassField, computed
from convkit.config.sides import Source, Target
from convkit.config.tree import MISSING, dig
from convkit.config.values import shown
from convkit.errors import ConfigError


def judge(source: Source, target: Target, seen: AbstractSet[str]) -> tuple[str, ...]:
    """The fields that the source's class doesn't know, of those in its section that nobody has read.

    Raises:
        ConfigError: a field of the class has a value, or by default, that isn't neutral, and nobody has read it.
    """
    cls = source.cls
    if cls is None:
        return ()
    unknown: list[str] = []
    for path, value in _unread(source, source.section, seen, ""):
        field = cls.find(path)
        section = cls.find(path.partition(".")[0])
        if field is None and section is None:
            unknown.append(path)
        elif field is None:
            if value is not None:
                raise _refusal(source, target, path, value, ClassField(default=ABSENT))
        elif source.applies(field) and not field.is_neutral(_exact(field, value), source.release, source.names):
            raise _refusal(source, target, path, value, field)
    for path, field in cls.fields.items():
        if not _standing(source, seen, (path, *field.also)) and field.in_release(source.release):
            default = computed(field.default_in(source.release), source.names)
            has_effect = source.applies(field) and not field.is_neutral(default, source.release, source.names)
            if default not in (REQUIRED, ABSENT) and has_effect:
                raise _refusal(source, target, path, default, field)
    return tuple(unknown)


def _standing(source: Source, seen: AbstractSet[str], spellings: Iterable[str]) -> bool:
    """Whether a field stands in the config, or was looked for, or a part of it."""
    for path in spellings:
        whole = source.whole(path)
        if (
            whole in seen
            or dig(source.section, path) is not MISSING
            or any(one.startswith(f"{whole}.") for one in seen)
        ):
            return True
    return False


def _unread(
    source: Source, section: Mapping[str, Any], seen: AbstractSet[str], prefix: str
) -> Iterator[tuple[str, Any]]:
    """The paths and values that nobody has read; a section of which a part was read, or declared, field by field."""
    declared = source.cls.within if source.cls else lambda name: iter(())
    for name, value in section.items():
        path = f"{prefix}{name}"
        whole = source.whole(path)
        if whole in seen:
            continue
        parts = any(one.startswith(f"{whole}.") for one in seen) or next(declared(path), None) is not None
        if isinstance(value, dict) and parts:
            yield from _unread(source, value, seen, f"{path}.")
        elif isinstance(value, list) and parts:
            for place, one in enumerate(value):
                if isinstance(one, dict):
                    yield from _unread(source, one, seen, f"{path}.{place}.")
        else:
            yield path, value


def _exact(field: ClassField, value: Any) -> Any:
    """The value in its exact form; what is no value of the field stays, and isn't neutral."""
    try:
        return field.kind.read(value)
    except ValueError:
        return value


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
