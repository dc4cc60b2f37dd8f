"""Look into what others signed or wrote: whatever has another form than it should is as if it weren't there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def object_in(found: Any, *names: str) -> Mapping[str, Any]:
    """The object under these names, one within the other; empty if there is none.

    >>> object_in({"a": {"b": {"c": 1}}}, "a", "b"), object_in({"a": [1]}, "a", "b")
    ({'c': 1}, {})
    """
    for name in names:
        found = found.get(name) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}


def objects_in(found: Any, name: str) -> list[Mapping[str, Any]]:
    """The objects in the list of this name; none if there is no list.

    >>> objects_in({"a": [{"b": 1}, 2]}, "a"), objects_in([], "a")
    ([{'b': 1}], [])
    """
    listed = found.get(name) if isinstance(found, dict) else None
    return [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []


def sha256_in(found: Any) -> str:
    """The sha256 that a resource has; empty if it has none."""
    digest = object_in(found, "digest").get("sha256")
    return digest if isinstance(digest, str) else ""
