"""Find, read and write the config beside a checkpoint, as JSON or YAML."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from convkit.errors import ConvkitError
from convkit.files import yaml_text
from convkit.files.document import as_json, from_json

#: most bytes of a config in JSON: the largest, with the names of 20 000 classes, have one million
JSON_LIMIT = 1 << 22
#: most bytes of one in YAML, which takes 200 times as much memory, and four seconds
YAML_LIMIT = 1 << 20


def find_config(path: Path, suffixes: Collection[str] = (".json", ".yaml")) -> Path | None:
    """Find the config of a checkpoint by its name; None if there isn't one, or if it is ambiguous.

    A file's own config is ``<stem>.yaml`` or ``<stem>.json``. Otherwise it is the folder's: ``config.json``,
    ``params.yaml``, or, in a folder or beside a ``.mdl`` (where the original converter writes
    ``config_to_cs-X.Y.yaml``), the only YAML file.

    Args:
        suffixes: the suffixes to look for.
    """
    folder = path if path.is_dir() else path.parent
    own = [] if path.is_dir() else [path.with_suffix(".yaml"), path.with_suffix(".json")]
    named = [folder / "params.yaml"] if path.suffix == ".mdl" else [folder / "config.json", folder / "params.yaml"]
    yamls = list(folder.glob("*.yaml")) if path.is_dir() or path.suffix == ".mdl" else []
    only = yamls if len(yamls) == 1 else []
    places = (place for place in (*own, *named, *only) if place.suffix in suffixes and place != path)
    return next((place for place in places if place.is_file()), None)


def read_config(path: Path) -> dict[str, Any]:
    """Read a JSON or YAML config; a file without a suffix is JSON.

    Raises:
        ConvkitError: the file doesn't exist, or isn't a dict in JSON or YAML.
    """
    is_json = path.suffix in (".json", "")
    limit = JSON_LIMIT if is_json else YAML_LIMIT
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
        text = data.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConvkitError(f"can't be read: {error}", path=path, remedy="check the path") from None
    if len(data) > limit:
        problem = f"has over {limit} bytes, the most that are read of a config"
        raise ConvkitError(problem, path=path, remedy="name the model's own config: --config")
    try:
        config = from_json(text) if is_json else yaml_text.loads(text)
    except ValueError as error:
        kind = "JSON" if is_json else "YAML"
        raise ConvkitError(f"is not valid {kind}: {error}", path=path, remedy="restore the file") from None
    if not isinstance(config, dict):
        raise ConvkitError("is not a config: its top level isn't a dict", path=path, remedy="restore the file")
    return config


def write_config(path: Path, config: Mapping[str, Any]) -> None:
    """Write a config as JSON or YAML, by the suffix; YAML keys are sorted, as ModelZoo does.

    Numbers that aren't finite are written to JSON as transformers 5 does (:mod:`convkit.files.document`).
    """
    if path.suffix == ".json":
        text = json.dumps(as_json(config), indent=2, ensure_ascii=False) + "\n"
    else:
        import yaml

        text = yaml.safe_dump(dict(config), default_flow_style=False, indent=2, sort_keys=True, allow_unicode=True)
    path.write_text(text, encoding="utf-8")
