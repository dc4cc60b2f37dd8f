"""Documents: typed values that convkit writes as JSON, and reads back with one clear error where they are malformed.

A document is a :class:`Document`, whose fields are its keys in their order. Fields that it doesn't know are allowed in
what is read, so that a later release may add some. Python's own :mod:`json` makes the text: configs may hold ``NaN``
and ``Infinity``, which :mod:`msgspec` would write as ``null`` and refuses to read.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from convkit.errors import ConvkitError

_T = TypeVar("_T")
#: what helps against a document that another program made, or that was edited
REMEDY = "restore the file, or make it again"
_PLACE = re.compile(r"(.*) - at `(.*)`")


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """A value that is an object in JSON."""

    def to_json(self) -> dict[str, Any]:
        """The document as dicts, lists, texts, numbers, booleans and None."""
        found: dict[str, Any] = _lists(msgspec.to_builtins(self))
        return found


def _lists(value: Any) -> Any:
    """The same with lists for tuples, as JSON gives it back."""
    if isinstance(value, dict):
        return {name: _lists(inner) for name, inner in value.items()}
    return [_lists(inner) for inner in value] if isinstance(value, list | tuple) else value


def read_json(path: Path, remedy: str = REMEDY) -> Any:
    """What a file holds, as JSON.

    Raises:
        ConvkitError: it isn't JSON, or is nested too deeply.
        OSError: it can't be read.
    """
    try:
        return json.loads(path.read_bytes())
    except RecursionError:
        raise ConvkitError("is nested too deeply", path=path, remedy=remedy) from None
    except ValueError as error:
        raise ConvkitError(f"is not valid JSON: {error}", path=path, remedy=remedy) from None


def typed(type_: type[_T], found: Any, path: Path | None = None, *, root: str = "$", remedy: str = REMEDY) -> _T:
    """A value of this type from JSON values, every field checked.

    Args:
        type_: a document, or what else msgspec knows.
        found: what :func:`read_json` gives.
        path: the file, for the error.
        root: what ``found`` is called in the error: ``$.plan`` for the plan of a receipt.
        remedy: for the error.

    Raises:
        ConvkitError: something is missing or of another type; ``key`` is its JSON path, such as ``$.plan.steps[3]``.
    """
    try:
        return msgspec.convert(found, type_)
    except RecursionError:
        raise ConvkitError("is nested too deeply", path=path, key=root, remedy=remedy) from None
    except (msgspec.ValidationError, OverflowError) as error:
        text = str(error)
        placed = _PLACE.fullmatch(text)
        problem, place = placed.groups() if placed else (text, "$")
        problem = problem[:1].lower() + problem[1:].replace("`", "")
        raise ConvkitError(problem, path=path, key=root + place[1:], remedy=remedy) from None
