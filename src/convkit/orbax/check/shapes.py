"""The shape of a loaded tree: what its leaves are loaded as, described by kind, dtype and shape."""

from __future__ import annotations

from typing import Any

from convkit.state.flax_msgpack import ArrayBytes
from convkit.state.orbax.tree import NDARRAY

#: in the aggregate file, a leaf that is stored as an array of its own
PLACEHOLDER = "PLACEHOLDER://"
#: what a node without leaves becomes
EMPTY: dict[str, Any] = {"None": None, "NamedTuple": None, "Dict": {}, "List": [], "Tuple": []}


def is_placeholder(value: Any) -> bool:
    """Whether a leaf of the msgpack file is the place of one that lies elsewhere."""
    return isinstance(value, str) and value.startswith(PLACEHOLDER)


def inline_kind(value: Any) -> Any:
    """What a leaf of the msgpack file is loaded as."""
    if isinstance(value, ArrayBytes):
        return f"{NDARRAY} {value.spec.dtype}{list(value.spec.shape)}"
    return value if value is None or value in ({}, []) else type(value).__name__


def python_type(dtype: str) -> str:
    """The Python type of a stored scalar."""
    if dtype == "bool":
        return "bool"
    return "int" if "int" in dtype else "float"
