"""Compare the config of a target with that of its plan."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from convkit.errors import ConvkitError
from convkit.files.config_file import read_config
from convkit.files.document import as_json
from convkit.files.receipt import recorded_config
from convkit.formats import get_format, open_checkpoint
from convkit.verify.documents import Side


def other_config(path: Path, target: Side, named: Path | None = None) -> Iterator[str]:
    """Yield a problem for each field in which the config in the target, or beside it, differs from the plan.

    ``named`` is the config's file, where a user names one.
    """
    planned = target.config
    if not planned:
        return
    if named is None and get_format(target.format).components:
        yield from _different(_of_components(path, target), planned, path.name)
        return
    candidates = [named] if named else _places(path, target)
    file = next((file for file in candidates if file.is_file()), None)
    if file is None:
        yield f"{candidates[0].name}: the config is missing"
        return
    try:
        found = read_config(file)
    except ConvkitError as error:
        yield f"{file.name}: {' '.join(error.problem.split())}"
        return
    yield from _different(found, planned, file.name)


def _different(found: dict[str, Any], planned: dict[str, Any], name: str) -> Iterator[str]:
    """Yield a problem for each field of the config called ``name`` that isn't as planned."""
    found, wanted = _flat(found), _flat(planned)
    for field in sorted({*found, *wanted}):
        have, want = (fields.get(field, "nothing") for fields in (found, wanted))
        if as_json(have) != as_json(want):  # a NaN isn't equal to itself
            yield f"{name}: {field} is {have!r}, the receipt says {want!r}"


def _of_components(path: Path, target: Side) -> dict[str, Any]:
    with open_checkpoint(path, target.format) as checkpoint:
        return checkpoint.config or {}


def _places(path: Path, target: Side) -> list[Path]:
    """Where the config of a target may lie."""
    if not path.is_dir():
        recorded = recorded_config(path)
        return [*([recorded] if recorded else []), path.with_suffix(".yaml"), path.with_suffix(".json")]
    # early plans don't name the config file
    names = [target.config_file] if target.config_file else ["config.json", "params.yaml"]
    return [path / name for name in (*get_format(target.format).config_files, *names)]


def _flat(document: Any, prefix: str = "") -> dict[str, Any]:
    """A config's fields by their dotted names."""
    if not isinstance(document, dict) or not document:
        return {prefix.removesuffix("."): document}
    return {name: value for key, part in document.items() for name, value in _flat(part, f"{prefix}{key}.").items()}
