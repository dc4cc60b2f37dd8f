"""Nested dicts by dotted path: read, set, remove, merge and compare."""

from __future__ import annotations

from collections import abc
from itertools import pairwise
from typing import Any

#: returned by :func:`dig` if nothing is there
MISSING: Any = type("Missing", (), {"__repr__": lambda self: "MISSING"})()


def dig(config: abc.Mapping[str, Any], path: str) -> Any:
    """The value at a dotted path (all of it for the empty path), or MISSING. A number is a place in a list.

    >>> dig({"models": [{"name": "vit"}]}, "models.0.name")
    'vit'
    """
    value: Any = config
    for part in path.split(".") if path else ():
        if isinstance(value, dict) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            return MISSING
    return value


def plant(config: dict[str, Any], path: str, value: Any) -> None:
    """Set the value at a dotted path, making sections and lists as needed (for the empty path: merge).

    >>> config = {}
    >>> plant(config, "models.1.name", "vit")
    >>> config
    {'models': [{}, {'name': 'vit'}]}
    """
    if not path:
        config.update(value)
        return
    *_, last = parts = path.split(".")
    here: Any = config
    for part, after in pairwise(parts):
        made: Any = [] if after.isdecimal() else {}
        if isinstance(here, list):
            here.extend({} for _ in range(len(here), int(part) + 1))
            here = here[int(part)]
        else:
            here = here.setdefault(part, made)
    if isinstance(here, list):
        here.extend({} for _ in range(len(here), int(last) + 1))
        here[int(last)] = value
    else:
        here[last] = value


def uproot(config: dict[str, Any], path: str) -> None:
    """Remove the value at a dotted path, and sections that are empty without it.

    >>> config = {"model": {"rope": {"theta": 1}, "name": "gpt2"}}
    >>> uproot(config, "model.rope.theta")
    >>> config
    {'model': {'name': 'gpt2'}}
    """
    above, _, name = path.rpartition(".")
    section = dig(config, above)
    del section[name]
    if above and not section:
        uproot(config, above)


def paths_of(config: abc.Mapping[str, Any], at: str = "") -> abc.Iterator[str]:
    """The dotted paths of all values that aren't sections.

    >>> list(paths_of({"model": {"name": "gpt2", "rope": {}}, "seed": 1}))
    ['model.name', 'model.rope', 'seed']
    """
    for name, value in config.items():
        if isinstance(value, dict) and value:
            yield from paths_of(value, f"{at}{name}.")
        else:
            yield f"{at}{name}"


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal, where True isn't 1."""
    return one == other and (type(one) is bool) == (type(other) is bool)


def merge(config: dict[str, Any], other: abc.Mapping[str, Any]) -> None:
    """Fill ``config`` with the fields that it doesn't have, section by section, also in lists of equal length."""
    for name, value in other.items():
        there = config.get(name)
        if isinstance(value, dict) and isinstance(there, dict):
            merge(there, value)
        elif isinstance(there, list) and _alike(value, there):
            for one, more in zip(there, value, strict=True):
                if isinstance(one, dict) and isinstance(more, dict):
                    merge(one, more)
        else:
            config.setdefault(name, value)


def missing_from(config: abc.Mapping[str, Any], other: abc.Mapping[str, Any]) -> dict[str, Any]:
    """The part of ``other`` whose fields ``config`` doesn't have."""
    left: dict[str, Any] = {}
    for name, value in other.items():
        there = config.get(name)
        if name not in config:
            left[name] = value
        elif isinstance(value, dict) and isinstance(there, dict):
            if inner := missing_from(there, value):
                left[name] = inner
        elif isinstance(there, list) and _alike(value, there):
            pairs = zip(there, value, strict=True)
            parts = [missing_from(a, b) if isinstance(a, dict) and isinstance(b, dict) else {} for a, b in pairs]
            if any(parts):
                left[name] = parts
    return left


def unseen(config: abc.Mapping[str, Any], seen: abc.Set[str], prefix: str = "") -> dict[str, Any]:
    """The part of a config that no row has read; of a list in which some have, what its sections have more."""
    left: dict[str, Any] = {}
    for name, value in config.items():
        path = f"{prefix}{name}"
        if path in seen:
            continue
        if isinstance(value, dict) and value:
            if inner := unseen(value, seen, f"{path}."):
                left[name] = inner
        elif isinstance(value, list) and any(one.startswith(f"{path}.") for one in seen):
            whole = {n for n in range(len(value)) if f"{path}.{n}" in seen}
            parts = [
                unseen(v, seen, f"{path}.{n}.") if isinstance(v, dict) and n not in whole else {}
                for n, v in enumerate(value)
            ]
            if any(parts):
                left[name] = parts
        else:
            left[name] = value
    return left


def _alike(one: Any, other: list[Any]) -> bool:
    """Whether both are lists of the same length."""
    return isinstance(one, list) and len(one) == len(other)
