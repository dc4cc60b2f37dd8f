"""Packed models, whose parts lie in folders on transformers' side: CHECKPOINT and ``--config`` are the outer folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from convkit.cli.cerebras.names import PACKED, Model
from convkit.errors import ConvkitError, UsageError
from convkit.execute.publish import writing
from convkit.files.config_file import write_config
from convkit.files.receipt import receipts_beside
from convkit.files.sharing import share_file
from convkit.files.taken import refuse_foreign, refuse_taken
from convkit.formats.folders.configs import CONFIG, documents, read_configs

#: what the original calls outputs whose inputs are folders
CHECKPOINT, YAML = "pytorch_model", "config"


def has_parts(path: Path, model: Model) -> bool:
    """Whether a path is the outer folder of a packed model.

    Raises:
        ConvkitError: it is one of another model's, or lacks a part.
    """
    found = [
        name for name in dict.fromkeys(name for names in PACKED.values() for name in names) if (path / name).is_dir()
    ]
    if not found:
        return False
    wanted = PACKED.get(model.name, ())
    if not set(found) & set(wanted):
        others = [name for name, parts in PACKED.items() if set(found) & set(parts)]
        problem = f"holds {_listed(found)}: {model.name} isn't packed of them"
        raise UsageError(problem, path=path, remedy=f"convert each part on its own, or name {' or '.join(others)}")
    if lacking := [name for name in wanted if name not in found]:
        raise ConvkitError(f"holds no {lacking[0]}/", path=path, remedy=f"{model.name} is packed of {_listed(wanted)}")
    return True


def check_given(path: Path, config: Path, model: Model) -> None:
    """Check that the outer folder is given as the checkpoint of a model that is packed, and as its config.

    Raises:
        ConvkitError: something else is given.
    """
    wanted = PACKED[model.name]
    if not has_parts(path, model):
        remedy = f"name the folder that holds {_listed(wanted)}"
        raise ConvkitError(f"isn't the folder of a packed {model.name}", path=path, remedy=remedy)
    if lacking := [name for name in wanted if not (path / name / CONFIG).is_file()]:
        raise ConvkitError(f"holds no {CONFIG}", path=path / lacking[0], remedy="add the component's config")
    if config.resolve() != path.resolve():
        remedy = f"name the folder of both as --config, too: {path}"
        raise ConvkitError(f"isn't the folder in which the parts of {model.name} lie", path=config, remedy=remedy)


def read_parts(path: Path, model: Model) -> dict[str, Any]:
    """The config of a packed model, from the folders of its parts.

    Raises:
        ConvkitError: a part has none.
    """
    parts = PACKED[model.name]
    config = read_configs(path, parts)
    if config is None:
        raise ConvkitError(f"holds no {CONFIG}", path=path / parts[0], remedy="add the component's config")
    return config


def places_of(folder: Path, model: Model) -> list[Path]:
    """Where the configs of the parts come."""
    return [folder / name / CONFIG for name in PACKED[model.name]]


def write_parts(folder: Path, config: Mapping[str, Any]) -> None:
    """Write the config of a packed model into the folders of its parts."""
    for name, document in documents(config).items():
        write_config(folder / name, document)


def holds_others(folder: Path) -> bool:
    """Whether a folder of outputs holds anything, and isn't the output of an earlier conversion itself."""
    return folder.is_dir() and not receipts_beside(folder) and any(folder.iterdir())


def parts_among(checkpoint: Path, folder: Path | None, model: Model) -> tuple[str, ...]:
    """The parts that come into a folder that holds other files, where the whole has a folder of its own."""
    return PACKED.get(model.name, ()) if folder and checkpoint.parent == folder and holds_others(folder) else ()


def refuse_parts(folder: Path, parts: Sequence[str], *, overwrite: bool) -> None:
    """Check that the parts may come into a folder.

    Raises:
        UsageError: one is there.
    """
    for name in parts:
        refuse_taken(folder / name, overwrite=overwrite, folder=True)


def share_parts(whole: Path, folder: Path, parts: Sequence[str]) -> None:
    """Give the parts of a whole their places in a folder of others', as the original does; bytes are shared.

    Raises:
        UsageError: a part's folder holds what isn't a part of it.
    """
    own = [path.relative_to(whole) for name in parts for path in sorted((whole / name).rglob("*")) if path.is_file()]
    for name in parts:
        there = sorted(path for path in (folder / name).rglob("*") if not path.is_dir())
        refuse_foreign(folder / name, [path for path in there if path.relative_to(folder) not in own])
    for path in own:
        with writing(folder / path):
            made = (folder / path).with_name(f".{path.name}.convkit-part")
            made.parent.mkdir(parents=True, exist_ok=True)
            made.unlink(missing_ok=True)
            share_file(whole / path, made, link=False)
            made.replace(folder / path)


def _listed(names: Any) -> str:
    return " and ".join(f"{name}/" for name in names)
