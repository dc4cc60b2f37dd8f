"""Describe the leaves of a loaded tree by kind, dtype and shape."""

from __future__ import annotations

from typing import Any

from convkit.state.flax_msgpack import ArrayBytes
from convkit.state.orbax.tree import NDARRAY

#: in the aggregate file, the prefix of a leaf that is stored as a separate array
PLACEHOLDER = "PLACEHOLDER://"
#: the description of a node without leaves
EMPTY: dict[str, Any] = {"None": None, "NamedTuple": None, "Dict": {}, "List": [], "Tuple": []}


def is_placeholder(value: Any) -> bool:
    """Whether a leaf of the msgpack file is a placeholder for one stored elsewhere."""
    return isinstance(value, str) and value.startswith(PLACEHOLDER)


def inline_kind(value: Any) -> Any:
    """Describe how a leaf of the msgpack file is loaded."""
    if isinstance(value, ArrayBytes):
        return f"{NDARRAY} {value.spec.dtype}{list(value.spec.shape)}"
    return value if value is None or value in ({}, []) else type(value).__name__


def python_type(dtype: str) -> str:
    """The Python type of a stored scalar."""
    if dtype == "bool":
        return "bool"
    return "int" if "int" in dtype else "float"
