"""A checkpoint as users have it: weights, the config beside them, and the files that travel along."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from collections.abc import Mapping as Dict
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from convkit.checkpoint import Checkpoint
from convkit.config import MISSING, dig
from convkit.errors import ConvkitError, UsageError
from convkit.formats import open_checkpoint
from convkit.keys import KeyTemplate
from convkit.mapping import Layout
from convkit.mappings import get_layout, layouts

#: Files beside the weights of an HF folder that belong to the model and hold no weights. They are
#: carried into a target folder, or beside a target file into ``<DST>.companions/``.
COMPANIONS = (
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "spiece.model",
    "chat_template.jinja",
    "chat_template.json",
    "preprocessor_config.json",
)


@dataclass
class Source:
    """An opened checkpoint with its config; use as a context manager.

    ``config_path`` is None where there is no config, or where the checkpoint itself holds it.
    """

    path: Path
    checkpoint: Checkpoint
    config: dict[str, Any] | None
    config_path: Path | None
    companions: tuple[Path, ...]

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *exc: object) -> None:
        self.checkpoint.close()


def open_source(path: str | Path, *, format: str | None = None, config: str | Path | None = None) -> Source:
    """Open a checkpoint and find its config.

    Raises:
        ConvkitError: the checkpoint or the config can't be read.
    """
    path = Path(path)
    checkpoint = open_checkpoint(path, format)
    config_path = Path(config) if config is not None else None
    if config_path is None and checkpoint.config is None:
        config_path = find_config(path)
    return Source(
        path=path,
        checkpoint=checkpoint,
        config=read_config(config_path) if config_path is not None else checkpoint.config,
        config_path=config_path,
        companions=tuple(_companions(path)),
    )


def companions_path(target: Path) -> Path:
    """Where the companions lie of a checkpoint that is one file, or a folder that holds nothing of others."""
    return target.with_name(target.name + ".companions")


def _companions(path: Path) -> Iterator[Path]:
    if path.is_dir():
        folder = beside if (beside := companions_path(path)).is_dir() else path
    else:
        folder = path.parent if (path.parent / "config.json").is_file() else companions_path(path)
    return (folder / name for name in COMPANIONS if (folder / name).is_file())


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


def write_config(path: Path, config: Dict[str, Any]) -> None:
    """Write a config as JSON or YAML, by the suffix; keys of YAML sorted, as ModelZoo does."""
    if path.suffix == ".json":
        text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
    else:
        import yaml

        text = yaml.safe_dump(dict(config), default_flow_style=False, indent=2, sort_keys=True, allow_unicode=True)
    path.write_text(text, encoding="utf-8")


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
    model = source.config.get("model_type") or dig(source.config, "model.name")
    said = f" (model {model!r})" if model and model is not MISSING else ""
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
                f"is no {named} checkpoint: its leaves are those of {', '.join(found)}",
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


def _signature(layout: Layout, config: Dict[str, Any], path: Path | None) -> str:
    """Why the config is of this layout; empty if it isn't. Training yamls are looked into as well."""
    if dig(config, "trainer.init.model") is not MISSING:
        config = {**config, "model": dig(config, "trainer.init.model")}
    for alternative in layout.signature:
        pairs = [(field, dig(config, field), value) for field, value in alternative.items()]
        if all(_agrees(found, value) for _, found, value in pairs):
            shown = ", ".join(f"{field} = {found!r}" for field, found, value in pairs if value is not None)
            return f"{path.name if path else 'config'}: {shown}"
    return ""


def _agrees(found: Any, value: Any) -> bool:
    found = None if found is MISSING else found
    return found in value if isinstance(value, tuple) else found == value


def same_files(checkpoint: Path, files: Iterable[Path]) -> list[dict[str, Any]]:
    """Files of a checkpoint as receipts record them: the path below its folder, and the size."""
    folder = checkpoint if checkpoint.is_dir() else checkpoint.parent
    return [{"name": Path(os.path.relpath(path, folder)).as_posix(), "bytes": path.stat().st_size} for path in files]


def bare_names(files: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same list as receipts had it at first, without folders: chunks of arrays then repeat names."""
    return [{**entry, "name": PurePosixPath(entry["name"]).name} for entry in files]


def parse_release(text: str | None) -> tuple[int, ...]:
    """``2.10`` -> (2, 10): releases are tuples, never floats.

    Raises:
        UsageError: not a release.
    """
    if not text:
        return ()
    try:
        return tuple(int(part) for part in text.removeprefix("cs-").split("."))
    except ValueError:
        raise UsageError(f"{text!r} is no release", remedy="write it as 2.9") from None
