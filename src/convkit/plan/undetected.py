"""Say why the layout of a source isn't detected: what the config or the leaves show, and the way on."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from convkit.config.tree import MISSING
from convkit.files.config_file import no_config

#: layers of T5X's scanned models, which lie on an axis of their own: no number stands in the key
_NUMBERED = re.compile(r"[./]layers_\d+[./]")
_SCAN_AT = re.compile(r"(?:^|[./])target[./](?:encoder[./]encoder|decoder[./]decoder|(?:en|de)coder[./]layers)[./]")
#: formats whose checkpoints have no config
_WITHOUT_CONFIG = ("pax", "t5x", "orbax-v0", "orbax-v1")
_SHOWN = 3

#: what is wrong, and the way on
Said = tuple[str, str]


def of_config(
    config: Mapping[str, Any], model: str | None, known: Iterable[str], in_folders: Mapping[str, Iterable[str]]
) -> Said:
    """What to say of a config of which no layout is recognised.

    Args:
        config: the whole.
        model: what it calls its model, if it does.
        known: names of all layouts.
        in_folders: those whose parts lie in folders, with the names of these.
    """
    trainer = config.get("trainer")
    if isinstance(trainer, list):
        remedy = "name a config with only the run that wrote the checkpoint: --config"
        return f"trainer is a list of {len(trainer)} runs, and nothing says which wrote the checkpoint", remedy
    shown = f" (model {model!r})" if model else ""
    sections = ((name, part.get("model_type")) for name, part in config.items() if isinstance(part, dict))
    parts = [f"{name} is {kind!r}" for name, kind in sections if isinstance(kind, str)]
    if parts and (nameless := _nameless_folders(config)):
        problem = f"{_named(nameless)} no model{shown}, but {', '.join(parts)}"
        return problem, f"correct {' and '.join(f'{name}/config.json' for name in nameless)}: model_type is missing"
    if parts and _apart(config):
        folders = [f"{layout} in {' and '.join(f'{name}/' for name in names)}" for layout, names in in_folders.items()]
        return f"no known model has these parts{shown}: {', '.join(parts)}", f"known: {', '.join(folders)}"
    if parts:
        remedy = "save the part that is to be converted alone (in transformers: save_pretrained of that part)"
        return f"is a model of several parts{shown}: {', '.join(parts)}", remedy
    families = ", ".join(known)
    if model:
        return f"isn't of a known model family{shown}", f"known layouts: {families}"
    return "isn't of a known model family, names no model, and fits no layout", f"say which it is: --from; {families}"


def _nameless_folders(config: Mapping[str, Any]) -> list[str]:
    """The folders of components whose own configs don't name their model."""
    return [name for name, part in config.items() if "model_type" not in part] if _apart(config) else []


def _apart(config: Mapping[str, Any]) -> bool:
    """Whether a config is several, of folders."""
    return all(isinstance(part, dict) for part in config.values())


def _named(folders: list[str]) -> str:
    return f"the config{'s' if folders[1:] else ''} of {' and '.join(folders)} {'name' if folders[1:] else 'names'}"


def why_not(model: str | None, foreign: Iterable[str], differing: Iterable[tuple[str, Any, Any]]) -> str:
    """Why a config isn't of the layout that the user names.

    Args:
        model: what it calls its model, if it does.
        foreign: its fields that the layout's classes don't have.
        differing: fields by which it isn't of the layout, though others show it: what it says, what it would say.
    """
    for field, found, value in differing:
        return f"{field} is {found!r}, not {value!r}" if found is not MISSING else f"it has no {field} ({value!r})"
    if model:
        return f"it names the model {model!r}"
    names = list(foreign)
    if names:
        more = f" and {len(names) - _SHOWN} more" if names[_SHOWN:] else ""
        return f"it has fields that such a config hasn't got: {', '.join(names[:_SHOWN])}{more}"
    return "its fields differ"


def of_leaves(keys: list[str], path: Path, format: str) -> Said:
    """What to say of a source without a config whose leaves show no layout."""
    if any(map(_SCAN_AT.search, keys)) and not any(map(_NUMBERED.search, keys)):
        first = next(key for key in keys if _SCAN_AT.search(key))
        return (
            f"is Scalable T5, or another T5X model with scanned layers: {first} holds all layers in one array, "
            "which no mapping reads",
            "convert a checkpoint of T5X's own models, whose layers are numbered: layers_0",
        )
    if format in _WITHOUT_CONFIG:
        more = f" and {len(keys) - _SHOWN} more" if keys[_SHOWN:] else ""
        return (
            f"the names of its leaves don't show a known layout: {', '.join(keys[:_SHOWN])}{more}",
            "see convkit list layouts; if it is one of them, say which: --from",
        )
    problem, remedy = no_config(path)
    return f"{problem}, and the names of its leaves don't show its layout", remedy
