"""Predict the answers of reading a JSON file and of loading a JSON item."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from convkit.checkpoint import json_text
from convkit.orbax.check.outcome import OrbaxError


def read(file: Path) -> Any:
    """Read the value in a file.

    Raises:
        OrbaxError: it isn't JSON.
    """
    try:
        return json_text.loads(file.read_bytes().decode())
    except UnicodeDecodeError as error:
        raise OrbaxError("UnicodeDecodeError", f"{file.name} isn't UTF-8: {error}") from None
    except ValueError as error:
        raise OrbaxError("JSONDecodeError", f"{file.name} isn't JSON: {error}") from None


def load(path: Path, *names: str) -> Any:
    """Read the first of these files that exists, and return its structure with the types of its leaves.

    Raises:
        OrbaxError: none exists, or it isn't JSON.
    """
    for file in (path / name for name in names):
        if file.exists():
            return _types(read(file))
    raise OrbaxError("FileNotFoundError", f"neither {' nor '.join(names)} lies in {path.name}")


def check(path: Path, name: str) -> None:
    """Check that the file is JSON, if it exists.

    Raises:
        OrbaxError: it isn't.
    """
    if (path / name).exists():
        read(path / name)


def _types(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _types(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_types(part) for part in value]
    return None if value is None else type(value).__name__
