"""Find, read and write the config beside a checkpoint, as JSON or YAML."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from convkit.errors import ConvkitError
from convkit.files import yaml_text
from convkit.files.document import as_json, from_json, write_whole
from convkit.files.receipt import recorded_config

#: most bytes of a config in JSON: the largest, with the names of 20 000 classes, have one million
JSON_LIMIT = 1 << 22
#: most bytes of one in YAML, which takes 200 times as much memory, and four seconds
YAML_LIMIT = 1 << 20
#: files that a line names
_SHOWN = 4


#: suffixes of files that hold weights in a folder, and not in a ``.mdl``
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth")
#: how ModelZoo's converter calls the config that it writes beside a ``.mdl``
_CONVERTED = "config_to_cs-*.yaml"
_YAMLS = (".yaml", ".yml")


def find_config(path: Path, suffixes: Collection[str] = (".json", *_YAMLS)) -> Path | None:
    """Find the config of a checkpoint by its name; None if there isn't one, or if it is ambiguous.

    A file's own config is ``<stem>.yaml``, ``.yml`` or ``.json``, or the one that its receipt names. Otherwise it is
    the folder's: ``config.json``, ``params.yaml``, or, in a folder or beside a ``.mdl``, the only
    ``config_to_cs-X.Y.yaml``, as the original converter calls what it writes. A folder with one ``.mdl`` and no other
    weights is this file. A config of another name counts only if the user names it.

    Args:
        suffixes: the suffixes to look for.
    """
    path = _only_mdl(path) or path
    folder = path if path.is_dir() else path.parent
    own = [] if path.is_dir() else [path.with_suffix(suffix) for suffix in (*_YAMLS, ".json")]
    if own and not any(place.is_file() for place in own) and (recorded := recorded_config(path)) is not None:
        own.append(recorded)
    named = [folder / "params.yaml"] if path.suffix == ".mdl" else [folder / "config.json", folder / "params.yaml"]
    converted = list(folder.glob(_CONVERTED)) if path.is_dir() or path.suffix == ".mdl" else []
    only = converted if len(converted) == 1 else []
    places = (place for place in (*own, *named, *only) if place.suffix in suffixes and place != path)
    return next((place for place in places if place.is_file()), None)


def _only_mdl(path: Path) -> Path | None:
    """The one ``.mdl`` of a folder that holds no other weights."""
    if not path.is_dir():
        return None
    files = [file for file in path.iterdir() if file.suffix in (".mdl", *_WEIGHTS)]
    return files[0] if len(files) == 1 and files[0].suffix == ".mdl" else None


def no_config(path: Path, option: str = "--config") -> tuple[str, str]:
    """What to say of a checkpoint whose config isn't found, and the remedy: YAML files of other names are named.

    Args:
        path: the checkpoint.
        option: the one that names the config, if the caller knows it.
    """
    folder = path if path.is_dir() else path.parent
    files = folder.iterdir() if folder.is_dir() else ()
    yamls = sorted(file.name for file in files if file.suffix in _YAMLS and file.is_file())
    if not yamls:
        return "has no config beside it", f"name the config{f': {option}' if option else ''}"
    shown = ", ".join(yamls[:_SHOWN]) + (f" and {len(yamls) - _SHOWN} more" if len(yamls) > _SHOWN else "")
    lies = "lies" if len(yamls) == 1 else "lie"
    example = f"{option} {folder / yamls[0]}".strip()
    return f"has no config of its own name beside it; {shown} {lies} there", f"name the model's: {example}"


def read_config(path: Path) -> dict[str, Any]:
    """Read a JSON or YAML config; a file without a suffix is JSON.

    Raises:
        ConvkitError: the file doesn't exist, or isn't a dict in JSON or YAML.
    """
    if path.is_dir():
        raise ConvkitError("is a folder, not a config", path=path, remedy=f"name the file: {path / 'config.json'}")
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


def config_bytes(path: Path, config: Mapping[str, Any]) -> bytes:
    """A config as JSON or YAML, by the suffix of its path; YAML keys are sorted, as ModelZoo does.

    Numbers that aren't finite are written to JSON as transformers 5 does (:mod:`convkit.files.document`).
    """
    if path.suffix == ".json":
        text = json.dumps(as_json(config), indent=2, ensure_ascii=False) + "\n"
    else:
        import yaml

        text = yaml.safe_dump(dict(config), default_flow_style=False, indent=2, sort_keys=True, allow_unicode=True)
    return text.encode()


def write_config(path: Path, config: Mapping[str, Any]) -> None:
    """Write a config (:func:`config_bytes`), whole or not at all."""
    write_whole(path, config_bytes(path, config))
