"""Reads a file with one JSON object, such as frameworks write beside their tensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from convkit.checkpoint import json_text
from convkit.errors import ConvkitError

_REMEDY = "fetch the file again"


def read_object(path: Path) -> dict[str, Any]:
    """The object, in the file's order.

    Raises:
        ConvkitError: the file can't be read, isn't JSON, or holds something else.
    """
    try:
        found = json_text.loads(path.read_bytes())
    except OSError as error:
        raise ConvkitError(f"can't be read: {error.strerror or error}", path=path, remedy=_REMEDY) from None
    except ValueError as error:
        raise ConvkitError(f"is not valid JSON: {error}", path=path, remedy=_REMEDY) from None
    if not isinstance(found, dict):
        raise ConvkitError("doesn't hold a JSON object", path=path, remedy=_REMEDY)
    return found
