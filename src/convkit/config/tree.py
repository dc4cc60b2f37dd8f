"""Nested dicts by dotted path: read, set, merge and compare."""

from __future__ import annotations

from collections import abc
from typing import Any

#: returned by :func:`dig` if nothing is there
MISSING: Any = type("Missing", (), {"__repr__": lambda self: "MISSING"})()


def dig(config: abc.Mapping[str, Any], path: str) -> Any:
    """The value at a dotted path (all of it for the empty path), or MISSING."""
    value: Any = config
    for part in path.split(".") if path else ():
        if not isinstance(value, dict) or part not in value:
            return MISSING
        value = value[part]
    return value


def plant(config: dict[str, Any], path: str, value: Any) -> None:
    """Set the value at a dotted path, making sections as needed (for the empty path: merge)."""
    if not path:
        config.update(value)
        return
    *sections, last = path.split(".")
    for part in sections:
        config = config.setdefault(part, {})
    config[last] = value


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal, where True isn't 1."""
    return one == other and (type(one) is bool) == (type(other) is bool)


def merge(config: dict[str, Any], other: abc.Mapping[str, Any]) -> None:
    """Fill ``config`` with the fields that it doesn't have, section by section."""
    for name, value in other.items():
        if isinstance(value, dict) and isinstance(config.get(name), dict):
            merge(config[name], value)
        else:
            config.setdefault(name, value)


def missing_from(config: abc.Mapping[str, Any], other: abc.Mapping[str, Any]) -> dict[str, Any]:
    """The part of ``other`` whose fields ``config`` doesn't have."""
    left: dict[str, Any] = {}
    for name, value in other.items():
        if name not in config:
            left[name] = value
        elif (
            isinstance(value, dict) and isinstance(config[name], dict) and (inner := missing_from(config[name], value))
        ):
            left[name] = inner
    return left


def unseen(config: abc.Mapping[str, Any], seen: set[str], prefix: str = "") -> dict[str, Any]:
    """The part of a config that no row has read."""
    left: dict[str, Any] = {}
    for name, value in config.items():
        path = f"{prefix}{name}"
        if path in seen:
            continue
        if isinstance(value, dict) and value:
            if inner := unseen(value, seen, f"{path}."):
                left[name] = inner
        else:
            left[name] = value
    return left
