"""The configs of components, as one config with a section for each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from convkit.errors import ConvkitError
from convkit.files.config_file import read_config

CONFIG = "config.json"
#: the section of the config with what else transformers has of a component, in a file of this name
PREPROCESSORS = "preprocessor_config"


def read_configs(path: Path, components: Iterable[str]) -> dict[str, Any] | None:
    """The configs of the components in a folder; None if none has any.

    Raises:
        ConvkitError: one can't be read, or a component has none, though another has.
    """
    names = list(components)
    config: dict[str, Any] = {name: read_config(file) for name in names if (file := path / name / CONFIG).is_file()}
    lacking = [name for name in names if name not in config]
    if config and lacking:
        raise ConvkitError(f"holds no {CONFIG}", path=path / lacking[0], remedy="add the component's config")
    files = {name: path / name / f"{PREPROCESSORS}.json" for name in names}
    preprocessors = {name: read_config(file) for name, file in files.items() if file.is_file()}
    return (config | ({PREPROCESSORS: preprocessors} if preprocessors else {})) or None


def documents(config: Mapping[str, Any]) -> dict[str, Any]:
    """The files of a config, by their paths in the folder."""
    own = {f"{name}/{CONFIG}": section for name, section in config.items() if name != PREPROCESSORS}
    return own | {f"{name}/{PREPROCESSORS}.json": one for name, one in config.get(PREPROCESSORS, {}).items()}
