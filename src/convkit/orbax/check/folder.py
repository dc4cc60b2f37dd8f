"""Read a folder as both APIs of Orbax do: whether it is complete, its steps, its items, and their handlers.

Sources: orbax-checkpoint 0.12.8, ``_src/path/{atomicity,step,temporary_paths}.py`` and
``_src/metadata/checkpoint.py``; a local file system.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from convkit.errors import ConvkitError
from convkit.orbax.check.calls import StepNames
from convkit.orbax.check.outcome import OrbaxError
from convkit.state.orbax import step, tree

TEMPORARY = ".orbax-checkpoint-tmp"


def is_whole(path: Path) -> bool:
    """Whether v0 regards the path as a complete checkpoint."""
    return path.is_dir() and TEMPORARY not in path.name


def is_unfinished(path: Path) -> bool:
    """Whether v1 regards the path as an unfinished save."""
    return path.is_dir() and not path.is_symlink() and TEMPORARY in path.name


def subfolders(path: Path) -> list[str]:
    """Names of the folders in a folder, in the order of the file system."""
    return [entry.name for entry in path.iterdir() if entry.is_dir()]


def steps(path: Path, names: StepNames = ("", 0)) -> dict[int, Path]:
    """List the steps that a manager finds if it is given such names, in their order."""
    prefix, length = names
    digits = rf"0\d{{{length - 1}}}|[1-9]\d{{{length - 1},}}" if length else r"0|[1-9]\d*"
    name = re.compile(rf"{re.escape(prefix)}{'_' if prefix else ''}({digits})")
    entries = path.iterdir() if path.is_dir() else ()
    found = {int(match[1]): entry for entry in entries if (match := name.fullmatch(entry.name)) and is_whole(entry)}
    return dict(sorted(found.items()))


def has_tree(path: Path) -> bool:
    """Whether the folder holds a pytree's metadata."""
    return (path / tree.FILE).exists()


def has_handlers(path: Path) -> bool:
    """Whether the folder holds a checkpoint's metadata."""
    return (path / step.FILE).exists()


def handlers(path: Path) -> Mapping[str, str] | str | None:
    """Read the handler of each item, or of the whole; None if there is no metadata in JSON that names one.

    Raises:
        OrbaxError: the metadata holds something other than names of handlers.
    """
    found = _metadata(path)
    return found.handlers if found else None


def commit_time(path: Path) -> int | None:
    """Read when the checkpoint was committed, in nanoseconds since 1970; None if it isn't recorded.

    Raises:
        OrbaxError: as :func:`handlers`.
    """
    found = _metadata(path)
    return found.fields.get("commit_timestamp_nsecs") if found else None


def _metadata(path: Path) -> step.StepMetadata | None:
    try:
        return step.read(path)
    except ConvkitError as error:
        if "not valid JSON" in error.problem:
            return None
        raise OrbaxError("ValueError", f"{step.FILE} {error.problem}") from None
