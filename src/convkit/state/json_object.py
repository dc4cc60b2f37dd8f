"""Reads files of JSON such as frameworks write beside their tensors: UTF-8 without a byte order mark."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from convkit.checkpoint import json_text
from convkit.errors import ConvkitError

_REMEDY = "fetch the file again"
_BOM = b"\xef\xbb\xbf"


def read_object(path: Path) -> dict[str, Any]:
    """The object, in the file's order.

    Raises:
        ConvkitError: the file can't be read, isn't JSON, or holds something else.
    """
    found = read_value(path)
    if not isinstance(found, dict):
        raise ConvkitError("doesn't hold a JSON object", path=path, remedy=_REMEDY)
    return found


def read_value(path: Path, remedy: str = _REMEDY) -> Any:
    """Any value of JSON.

    Raises:
        ConvkitError: the file can't be read, or isn't JSON that its framework reads.
    """
    try:
        data = path.read_bytes()
        if data.startswith(_BOM):
            problem = "starts with a byte order mark (BOM), which the framework that wrote it doesn't read"
            raise ConvkitError(problem, path=path, remedy="save it as UTF-8 without one")
        if not data.strip():
            raise ConvkitError("is empty, which is not valid JSON", path=path, remedy=remedy)
        return json_text.loads(data.decode())
    except OSError as error:
        raise ConvkitError(f"can't be read: {error.strerror or error}", path=path, remedy=remedy) from None
    except ValueError as error:
        raise ConvkitError(f"is not valid JSON: {error}", path=path, remedy=remedy) from None
