"""Documents: typed values that convkit writes as JSON, and reads back with one clear error where they are malformed.

A document is a :class:`Document`, whose fields are its keys in their order. Fields that it doesn't know are allowed in
what is read, so that a later release may add some. Configs may hold NaN and infinities, which JSON can't say: they are
written as ``{"__float__": "NaN"}``, ``"Infinity"`` or ``"-Infinity"``, as transformers 5 does, and come back.
"""

from __future__ import annotations

import math
import operator
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from convkit.checkpoint import json_text
from convkit.checkpoint.digests import InPieces
from convkit.errors import ConvkitError

_T = TypeVar("_T")
#: what helps against a document that another program made, or that was edited
REMEDY = "restore the file, or make it again"
#: types of values that JSON says as they are
_SAID = {str, int, bool, type(None)}
_PLACE = re.compile(r"(.*) - at `(.*)`")
#: the one field of an object that stands for a number, and the numbers by their texts
TAG = "__float__"
_TAGGED = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """A value that is an object in JSON."""

    def to_json(self) -> dict[str, Any]:
        """The document as dicts, lists, texts, numbers, booleans and None."""
        found: dict[str, Any] = as_json(msgspec.to_builtins(self))
        return found


class Held(InPieces):
    """A part of a document that is held as text (:mod:`convkit.files.long_document`)."""

    def typed(self, type_: Any, path: Path | None, root: str, remedy: str) -> Any:
        """The part as this type, whose entries are made one at a time; see :func:`typed`."""
        raise NotImplementedError


def as_json(value: Any) -> Any:
    """A value as JSON can say it: lists for tuples, and objects for numbers that aren't finite.

    What says neither is returned as it is, so a huge plan isn't built a second time.

    >>> as_json({"clip": float("-inf"), "sizes": (1, 2.5)})
    {'clip': {'__float__': '-Infinity'}, 'sizes': [1, 2.5]}
    """
    if isinstance(value, dict):
        inner = [one if type(one) in _SAID else as_json(one) for one in value.values()]
        same = all(map(operator.is_, inner, value.values()))
        return value if same else dict(zip(value, inner, strict=True))
    if isinstance(value, list | tuple):
        inner = [one if type(one) in _SAID else as_json(one) for one in value]
        return value if isinstance(value, list) and all(map(operator.is_, inner, value)) else inner
    if isinstance(value, float) and not math.isfinite(value):
        return {TAG: "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"}
    return value


def from_json(text: str | bytes, *, halves: bool = False) -> Any:
    """What a JSON text says, with numbers for what :func:`as_json` made of those that aren't finite.

    Raises:
        ValueError: it isn't JSON, or over a limit (:mod:`convkit.checkpoint.json_text`).
    """
    return json_text.loads(text, object_hook=_number, halves=halves)


def _number(found: dict[str, Any]) -> Any:
    """The number that an object stands for; any other object as it is."""
    text = found.get(TAG)
    return _TAGGED.get(text, found) if len(found) == 1 and isinstance(text, str) else found


def read_json(path: Path, remedy: str = REMEDY, *, parse: Callable[..., Any] = from_json) -> Any:
    """What a file holds, as JSON, by :func:`from_json` or another that takes the same.

    Raises:
        ConvkitError: it isn't JSON, or over a limit.
        OSError: it can't be read.
    """
    try:
        return parse(path.read_bytes(), halves=True)  # a record may name a file whose name isn't Unicode
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
    found = _of_held(type_, found, path, root, remedy)
    try:
        return msgspec.convert(found, type_)
    except RecursionError:
        raise ConvkitError("is nested too deeply", path=path, key=root, remedy=remedy) from None
    except (msgspec.ValidationError, OverflowError, UnicodeError) as error:
        text = str(error)
        placed = _PLACE.fullmatch(text)
        problem, place = placed.groups() if placed else (text, "$")
        problem = problem[:1].lower() + problem[1:].replace("`", "")
        raise ConvkitError(problem, path=path, key=root + place[1:], remedy=remedy) from None


def _of_held(type_: Any, found: Any, path: Path | None, root: str, remedy: str) -> Any:
    """The values of which a type is made, of them typed already what is held as text."""
    if type(found) is not dict or not isinstance(type_, type) or not issubclass(type_, msgspec.Struct):
        return found
    if not any(isinstance(one, Held | dict) for one in found.values()):
        return found
    made = {}
    for field in msgspec.structs.fields(type_):
        name, value = field.encode_name, found.get(field.encode_name)
        place = f"{root}.{name}"
        if isinstance(value, Held):
            made[name] = value.typed(field.type, path, place, remedy)
        elif type(value) is dict and (inner := _of_held(field.type, value, path, place, remedy)) is not value:
            made[name] = inner
    return found | made if made else found


def write_whole(path: Path, data: bytes | bytearray) -> None:
    """Write a file, and its folder, that appears under its name only when it is whole."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.parent.mkdir(parents=True, exist_ok=True)
    partial.write_bytes(data)
    partial.replace(path)
