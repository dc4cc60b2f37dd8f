"""A checkpoint as users have it: weights, the config beside them, and the files that travel along."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convkit.checkpoint import Checkpoint
from convkit.files.config_file import find_config, read_config
from convkit.formats import open_checkpoint

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
