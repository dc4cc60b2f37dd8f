"""Parses ``generated://family?option=value&...`` into a family with its options."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import fields
from typing import Any, get_args, get_type_hints
from urllib.parse import parse_qsl, urlsplit

from convkit.errors import ConvkitError, UsageError, meant
from convkit.generate.families import AnyFamily, get_family
from convkit.generate.generator import Generator

_PLAIN: dict[Any, tuple[Callable[[str], Any], str]] = {
    int: (int, "a whole number"),
    float: (float, "a number"),
    bool: ({"true": True, "false": False}.__getitem__, "true or false"),
    str: (str, "text"),
}


def parse(uri: str) -> AnyFamily | Generator:
    """The family that a URI names.

    >>> parse("generated://llama?kv_heads=3&tied=true").heads
    6

    Raises:
        UsageError: an unknown family, option or value; the message lists the known ones.
        ConvkitError: a family of another package can't be used.
    """
    parts = urlsplit(uri)
    try:
        family = get_family(parts.netloc + parts.path.rstrip("/") + (f"#{parts.fragment}" if parts.fragment else ""))
    except ConvkitError as error:
        raise type(error)(error.problem, path=uri, remedy=error.remedy) from error
    hints = get_type_hints(family)
    chosen: dict[str, Any] = {}
    for name, text in parse_qsl(parts.query, keep_blank_values=True):
        if name in chosen or name not in hints:
            names = [field.name for field in fields(family)]
            problem = "is given twice" if name in chosen else f"isn't an option of {parts.netloc}"
            raise UsageError(f"{name!r} {problem}", path=uri, remedy=f"{meant(name, names)}options: {', '.join(names)}")
        chosen[name] = _value(uri, name, hints[name], text)
    try:
        return family(**chosen)
    except UsageError as error:
        raise UsageError(error.problem, path=uri, remedy=error.remedy) from error


def _value(uri: str, name: str, kind: Any, text: str) -> Any:
    if choices := get_args(kind):
        if text in choices:
            return text
        raise UsageError(f"{name} can't be {text!r}", path=uri, remedy=f"choices: {', '.join(choices)}")
    if name == "shard_size" and not re.fullmatch(r"\d+[KMGT]B", text):
        raise UsageError(f"{name} can't be {text!r}", path=uri, remedy="write 100KB, 5GB")
    if kind not in _PLAIN:
        raise ConvkitError(f"{name} is no number, text or choice", path=uri, remedy="correct the family's dataclass")
    convert, what = _PLAIN[kind]
    try:
        return convert(text)
    except (ValueError, KeyError) as error:
        raise UsageError(f"{name} can't be {text!r}", path=uri, remedy=f"it is {what}") from error
