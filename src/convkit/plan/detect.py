"""Detect which layout a source has, and say why."""

from __future__ import annotations

from collections import abc
from pathlib import Path
from typing import Any

from convkit.config.tree import MISSING, dig
from convkit.errors import ConvkitError
from convkit.mapping import Layout
from convkit.mapping.keys import KeyTemplate
from convkit.mappings import get_layout, layouts
from convkit.plan.source import Source


def detect_layout(source: Source, named: str | None = None) -> tuple[Layout, str]:
    """Detect the layout of a source from its config, and say why; a layout that the user names is checked.

    Raises:
        ConvkitError: the layout can't be recognised, or isn't the named one.
    """
    if named is not None:
        get_layout(named)
    if source.config is None:
        return _layout_of_keys(source, named)
    found = [
        (layout, why) for layout in layouts().values() if (why := _signature(layout, source.config, source.config_path))
    ]
    if named is not None:
        if any(layout.name == named for layout, _ in found):
            return get_layout(named), "named by the user, and the config agrees"
        why = f"it is one of {found[0][0].name}" if found else "its fields differ"
        raise ConvkitError(
            f"is not the config of a {named} checkpoint: {why}", path=source.config_path, remedy="correct --from"
        )
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(layout.name for layout, _ in found)
        raise ConvkitError(f"could be any of {names}", path=source.config_path, remedy="say which: --from")
    shown = f" (model {model!r})" if (model := _model_named(source.config)) else ""
    remedy = f"known layouts: {', '.join(layouts())}"
    raise ConvkitError(f"isn't of a known model family{shown}", path=source.config_path, remedy=remedy)


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
    raise ConvkitError(
        "has no config beside it, and the names of its leaves don't show its layout",
        path=source.path,
        remedy="name the config: --config, or a folder that holds the whole checkpoint",
    )


def _has_keys(source: Source, layout: Layout) -> bool:
    templates = [KeyTemplate.parse(text) for text in layout.keys]
    return all(any(template.match(key, {}) is not None for key in source.checkpoint.leaves) for template in templates)


def _model_named(config: abc.Mapping[str, Any]) -> str | None:
    """The name of the model in a config, from a field by which layouts recognise theirs."""
    fields = (next(iter(alternative)) for layout in layouts().values() for alternative in layout.signature)
    names = (dig(config, field) for field in dict.fromkeys(fields))
    return next((name for name in names if isinstance(name, str)), None)


def _signature(layout: Layout, config: abc.Mapping[str, Any], path: Path | None) -> str:
    """Why the config is of this layout; empty if it isn't. Every place where it may hold the model is checked."""
    home, *others = layout.config_at or ("",)
    for place in others:
        if (model := dig(config, place)) is not MISSING:
            config = {**config, home: model}
    for alternative in layout.signature:
        pairs = [(field, dig(config, field), value) for field, value in alternative.items()]
        if all(_agrees(found, value) for _, found, value in pairs):
            shown = ", ".join(f"{field} = {found!r}" for field, found, value in pairs if value is not None)
            return f"{path.name if path else 'config'}: {shown}"
    return ""


def _agrees(found: Any, value: Any) -> bool:
    found = None if found is MISSING else found
    return found in value if isinstance(value, tuple) else found == value
