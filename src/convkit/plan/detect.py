"""Detect which layout a source has, and say why."""

from __future__ import annotations

from collections import abc
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from convkit import formats, mappings
from convkit.config import ConfigClass
from convkit.config.classes import every
from convkit.config.tree import MISSING, dig
from convkit.errors import ConvkitError
from convkit.mapping import Layout
from convkit.mapping.keys import KeyTemplate
from convkit.mappings import ends, get_layout, in_todays_words, layouts, mappings_of
from convkit.plan import undetected
from convkit.plan.source import Source


class _Match(Struct, frozen=True):
    """A layout whose signature a config has: the fields that show it, and the reason for people. A nameless config is
    ``early`` if the class had all its fields already when configs weren't named.
    """

    layout: Layout
    fields: abc.Mapping[str, Any]
    why: str
    early: bool = False

    def within(self, other: _Match) -> bool:
        """Whether the other layout's signature demands all of this one, and more."""
        return self.fields != other.fields and self.fields.items() <= other.fields.items()


def detect_layout(source: Source, named: str | None = None, to: str | None = None) -> tuple[Layout, str]:
    """Detect the layout of a source from its config, and say why; a layout that the user names is checked.

    A config that doesn't name its model is of a layout only if the layout's config class has all its fields. Where
    several layouts are left, the one counts whose signature demands more, or from which a mapping leads ``to`` a layout
    or framework. A nameless config without any signature is of the one layout that has its fields and leads there.

    Raises:
        ConvkitError: the layout can't be recognised, or isn't the named one.
    """
    if named is not None:
        get_layout(named)
    if source.config is None:
        return _layout_of_keys(source, named)
    try:
        return layout_of_config(source.config, source.config_path, named, to)
    except ConvkitError as error:
        if error.path is not None:
            raise
        raise type(error)(error.problem, path=source.path, key=error.key, remedy=error.remedy) from None


def layout_of_config(
    config: abc.Mapping[str, Any], path: Path | None, named: str | None = None, to: str | None = None
) -> tuple[Layout, str]:
    """Detect the layout of the checkpoint that a config describes, as :func:`detect_layout` does, and say why.

    Raises:
        ConvkitError: the layout can't be recognised, or isn't the named one.
    """
    matches = [match for layout in layouts().values() if (match := _match(layout, config, path))]
    if named is not None:
        return get_layout(named), _why_named(named, matches, config, path)
    likely = [match for match in matches if match.early] or matches
    left = [match for match in likely if not any(match.within(other) for other in likely)]
    if len(left) > 1 and to is not None:
        left = [match for match in left if _leads(match.layout, to)] or left
    if len(left) > 1:
        left = [match for match in left if not match.layout.by_name] or left
    if len(left) == 1:
        return left[0].layout, left[0].why
    if left:
        names = ", ".join(sorted(match.layout.name for match in left))
        raise ConvkitError(f"could be any of {names}", path=path, remedy="say which: --from")
    leading = [one for one in layouts().values() if to is not None and not one.by_name and _leads(one, to)]
    fitting = [one for one in leading if _fits(one, config)]
    if len(fitting) == 1:
        return fitting[0], f"it names no model, has only fields of {fitting[0].name}, and {to} is asked for"
    problem, remedy = undetected.of_config(config, _model_named(config), layouts(), _in_folders())
    raise ConvkitError(problem, path=path, remedy=mappings.remedy(remedy))


def _in_folders() -> dict[str, list[str]]:
    """The layouts whose parts lie in folders, with the names of these, which their signatures have."""
    parted = {name for name, format in formats.every() if format.components}
    found = {one.name: next(iter(one.signature), {}) for one in layouts().values() if one.format in parted}
    return {name: list(dict.fromkeys(field.partition(".")[0] for field in fields)) for name, fields in found.items()}


def _why_named(named: str, matches: list[_Match], config: abc.Mapping[str, Any], path: Path | None) -> str:
    """Why a config is of the layout that the user names.

    Raises:
        ConvkitError: it isn't.
    """
    if any(match.layout.name == named for match in matches):
        return "named by the user, and the config agrees"
    if _fits(get_layout(named), config):
        return "named by the user, and the config names no model and has only fields of it"
    foreign = _foreign(get_layout(named), config)
    differing = _differing(get_layout(named), config)
    why = undetected.why_not(_model_named(config), foreign, differing)
    why = f"it is one of {matches[0].layout.name}" if matches else why
    raise ConvkitError(f"is not the config of a {named} checkpoint: {why}", path=path, remedy="correct --from")


def _leads(layout: Layout, to: str) -> bool:
    """Whether a mapping leads from a layout to another layout or framework; every layout leads to itself."""
    reached = {layout.name, *(name for joined in ends() if layout.name in joined for name in joined)}
    return any(to in (name, name.partition("/")[0]) for name in reached)


def _layout_of_keys(source: Source, named: str | None) -> tuple[Layout, str]:
    """Detect the layout of a source without a config from the names of its leaves.

    Raises:
        ConvkitError: they fit no layout, several layouts, or a layout other than the named one.
    """
    found = {layout.name: layout for layout in layouts().values() if layout.keys and _has_keys(source, layout)}
    if named is not None:
        if found and named not in found:
            raise ConvkitError(
                f"isn't a {named} checkpoint: its leaves are those of {', '.join(found)}",
                path=source.path,
                remedy="correct --from",
            )
        return get_layout(named), "named by the user"
    if len(found) == 1:
        return next((layout, "by the names of its leaves") for layout in found.values())
    if found:
        raise ConvkitError(
            f"mixes the leaves of {', '.join(found)}", path=source.path, remedy="say which it is: --from"
        )
    keys = list(source.checkpoint.leaves)
    problem, remedy = undetected.of_leaves(keys, source.path, source.checkpoint.format)
    raise ConvkitError(problem, path=source.path, remedy=mappings.remedy(remedy))


def _has_keys(source: Source, layout: Layout) -> bool:
    templates = [KeyTemplate.parse(text) for text in layout.keys]
    return all(any(template.match(key, {}) is not None for key in source.checkpoint.leaves) for template in templates)


def _model_named(config: abc.Mapping[str, Any]) -> str | None:
    """The name of the model in a config, from a field by which layouts recognise theirs."""
    fields = (next(iter(alternative)) for layout in layouts().values() for alternative in layout.signature)
    names = (dig(config, field) for field in dict.fromkeys(fields))
    return next((name for name in names if isinstance(name, str)), None)


def _match(layout: Layout, config: abc.Mapping[str, Any], path: Path | None) -> _Match | None:
    """The signature of the layout that the config has."""
    config = _at_home(layout, config)
    for alternative in layout.signature:
        pairs = [(field, dig(config, field), value) for field, value in alternative.items()]
        if not all(_agrees(found, value) for _, found, value in pairs):
            continue
        shown = ", ".join(f"{field} = {found!r}" for field, found, value in pairs if found not in (MISSING, None))
        match = _Match(layout, alternative, f"{path.name if path else 'config'}: {shown or 'its fields'}")
        if not _nameless(alternative):
            return match
        if _knows(layout, config):
            return replace(match, early=_knows(layout, config, before=next(iter(alternative))))
    return None


def _fits(layout: Layout, config: abc.Mapping[str, Any]) -> bool:
    """Whether a config that names no model has only fields of the layout's config class."""
    config = _at_home(layout, config)
    names = [next(iter(alternative)) for alternative in layout.signature if not _nameless(alternative)]
    nameless = bool(names) and all(dig(config, name) is MISSING for name in names)
    return nameless and bool(_classes(layout)) and _knows(layout, config)


def _at_home(layout: Layout, config: abc.Mapping[str, Any]) -> abc.Mapping[str, Any]:
    """The config with the model at the first of the places where the layout's configs may hold it, in the words of the
    current release.
    """
    home, *others = layout.config_at or ("",)
    found = (model for place in (*others, home) if isinstance(model := dig(config, place), dict))
    model = next(found, None)
    return config if model is None or not home else {**config, home: in_todays_words(layout, model)}


def _nameless(alternative: abc.Mapping[str, Any]) -> bool:
    """Whether a signature is that of configs that don't name their model: its first field must be absent."""
    return next(iter(alternative.values())) is None


def _knows(layout: Layout, config: abc.Mapping[str, Any], before: str = "") -> bool:
    """Whether one config class of the layout has every field of the model, in a release ``before`` it had the field of
    that path; true if the layout declares no class.
    """
    home = (layout.config_at or ("",))[0]
    section = dig(config, home)
    if not isinstance(section, dict):
        return False
    classes = _classes(layout)
    return not classes or any(_all_fields(one, section.keys(), before.removeprefix(f"{home}.")) for one in classes)


def _foreign(layout: Layout, config: abc.Mapping[str, Any]) -> list[str]:
    """The fields of the model that no config class of the layout has."""
    section = dig(_at_home(layout, config), (layout.config_at or ("",))[0])
    classes = _classes(layout)
    if not classes or not isinstance(section, dict):
        return []
    return [field for field in section if not any(one.find(field) for one in classes)]


def _differing(layout: Layout, config: abc.Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """The fields by which a config isn't of the layout, if others show it: what it says, and what it would say."""
    own = _at_home(layout, config)
    alternative = next(iter(layout.signature), {})
    found = [(field, dig(own, field), value) for field, value in alternative.items()]
    differing = [one for one in found if not _agrees(*one[1:])]
    return differing if len(differing) < len(found) else []


def _all_fields(config_class: ConfigClass, fields: abc.Iterable[str], before: str) -> bool:
    """Whether a class has all these fields, and had them ``before`` it had another one."""
    found = [config_class.find(field) for field in fields]
    later = config_class.find(before)
    return all(one is not None and (later is None or not later.since or one.since < later.since) for one in found)


def _classes(layout: Layout) -> tuple[ConfigClass, ...]:
    """The config classes that the mappings declare for a layout."""
    sides = [
        side
        for one in mappings_of(layout.name)
        for side in ((one.left.name, one.config.left), (one.right.name, one.config.right))
    ]
    return tuple(found for name, classes in sides if name == layout.name for found in every(classes))


def _agrees(found: Any, value: Any) -> bool:
    found = None if found is MISSING else found
    return found in value if isinstance(value, tuple) else found == value
