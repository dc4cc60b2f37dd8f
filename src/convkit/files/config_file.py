"""The config beside a checkpoint: found, read and written, as JSON or YAML."""

from __future__ import annotations

import json
from collections import abc
from pathlib import Path
from typing import Any

from convkit.errors import ConvkitError


def find_config(path: Path) -> Path | None:
    """The config of a checkpoint: ``config.json`` or ``params.yaml`` of a folder, the yaml of a file.

    Beside a file: its own, ``<stem>.yaml`` or ``<stem>.json``; else that of its folder, for a ``.mdl``
    ``params.yaml`` or the one yaml (the original converter calls it ``config_to_cs-X.Y.yaml``), for others
    ``config.json`` or ``params.yaml``. None where there is none, or several.
    """
    folder = path if path.is_dir() else path.parent
    yamls = sorted(folder.glob("*.yaml"))
    own = [path.with_suffix(".yaml"), path.with_suffix(".json")]
    if path.is_dir():
        named = [folder / "config.json", folder / "params.yaml"]
    elif path.suffix == ".mdl":
        named = [*own, folder / "params.yaml", *(yamls if len(yamls) == 1 else [])]
    else:
        named = [*own, folder / "config.json", folder / "params.yaml"]
    return next((candidate for candidate in named if candidate.is_file() and candidate != path), None)


def read_config(path: Path) -> dict[str, Any]:
    """A JSON or YAML config.

    Raises:
        ConvkitError: no such file, or not a dict of JSON or YAML.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConvkitError(f"can't be read: {error}", path=path, remedy="check the path") from None
    try:
        if path.suffix == ".json":
            config = json.loads(text)
        else:
            import yaml

            config = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except ValueError as error:
        raise ConvkitError(f"is not valid JSON: {error}", path=path, remedy="restore the file") from None
    except Exception as error:
        if type(error).__module__.startswith("yaml"):
            raise ConvkitError(f"is not valid YAML: {error}", path=path, remedy="restore the file") from None
        raise
    if not isinstance(config, dict):
        raise ConvkitError("is not a config: its top level is no dict", path=path, remedy="restore the file")
    return config


def write_config(path: Path, config: abc.Mapping[str, Any]) -> None:
    """Write a config as JSON or YAML, by the suffix; keys of YAML sorted, as ModelZoo does."""
    if path.suffix == ".json":
        text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
    else:
        import yaml

        text = yaml.safe_dump(dict(config), default_flow_style=False, indent=2, sort_keys=True, allow_unicode=True)
    path.write_text(text, encoding="utf-8")
