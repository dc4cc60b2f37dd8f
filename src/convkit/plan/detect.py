"""Which layout a source has, and why."""

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
    """The layout of a source and why, from what its config says of itself; a named one is checked.

    Raises:
        ConvkitError: nothing says what it is, or it is another than the one named.
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
        say = f"it says {found[0][0].name}" if found else "it says something else"
        raise ConvkitError(
            f"is not the config of a {named} checkpoint: {say}", path=source.config_path, remedy="correct --from"
        )
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(layout.name for layout, _ in found)
        raise ConvkitError(f"could be any of {names}", path=source.config_path, remedy="say which: --from")
    said = f" (model {model!r})" if (model := _model_said(source.config)) else ""
    raise ConvkitError(
        f"is of no known model family{said}", path=source.config_path, remedy=f"known layouts: {', '.join(layouts())}"
    )


def _layout_of_keys(source: Source, named: str | None) -> tuple[Layout, str]:
    """The layout of a source without a config, from the names of its leaves.

    Raises:
        ConvkitError: they are of no layout, of several, or of another than the one named.
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
        "has no config beside it, and its leaves' names don't say what model it is",
        path=source.path,
        remedy="name the config: --config, or a folder that holds the whole checkpoint",
    )


def _has_keys(source: Source, layout: Layout) -> bool:
    templates = [KeyTemplate.parse(text) for text in layout.keys]
    return all(any(template.match(key, {}) is not None for key in source.checkpoint.leaves) for template in templates)


def _model_said(config: abc.Mapping[str, Any]) -> str | None:
    """What a config calls its model, in the field by which a layout would know it."""
    fields = (next(iter(alternative)) for layout in layouts().values() for alternative in layout.signature)
    said = (dig(config, field) for field in dict.fromkeys(fields))
    return next((name for name in said if isinstance(name, str)), None)


def _signature(layout: Layout, config: abc.Mapping[str, Any], path: Path | None) -> str:
    """Why the config is of this layout; empty if it isn't. All places where it may hold the model are looked at."""
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
