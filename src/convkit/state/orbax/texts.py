"""``_strings.json``: an item's text leaves.

Source: orbax-checkpoint 0.12.8 ``_src/serialization/type_handlers.py`` (``StringHandler``): a text's storage name is
used as a JSON pointer, so "/" in a name makes nested objects, and "~1" stands for "/".
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from convkit.state.json_object import read_object

FILE = "_strings.json"
#: a "~" that is invalid in a JSON pointer
_BAD_TILDE = re.compile("~(?![01])")


def read(folder: Path) -> dict[str, Any]:
    """The file's object; empty if there is no file.

    Raises:
        ConvkitError: it isn't JSON.
    """
    path = folder / FILE
    return read_object(path) if path.is_file() else {}


def find(found: Mapping[str, Any], name: str) -> str | None:
    """The text under a storage name, if there is one."""
    node: Any = found
    for part in _parts(name):
        node = node.get(part) if isinstance(node, dict) else None
    return node if isinstance(node, str) else None


def is_name(name: str) -> bool:
    """Whether Orbax can store a text under this name."""
    return _BAD_TILDE.search(name) is None


def dumps(texts: Mapping[str, str]) -> bytes:
    """The text of the file.

    >>> dumps({"a/b": "x", "c": "y"})
    b'{"a": {"b": "x"}, "c": "y"}'
    """
    found: dict[str, Any] = {}
    for name, text in texts.items():
        *above, last = _parts(name)
        node = found
        for part in above:
            node = node.setdefault(part, {})
        node[last] = text
    return json.dumps(found).encode()


def _parts(name: str) -> list[str]:
    return [part.replace("~1", "/").replace("~0", "~") for part in name.split("/")]
