"""Pax's ``metadata`` item: the shapes and dtypes of a checkpoint's variables, which Pax checks when it restores.

Source: paxml ``checkpoint_metadata.py`` and ``checkpoint_version.py``. The file ``metadata/metadata`` of a
step folder is JSON: ``{"version": 1.1, "train_state_metadata": {"mdl_vars": tree}}``, in which each array is a dict
with ``_array_metadata_tag``. Version 1.0 has no tree; 1.2 says that the state is in OCDBT.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from convkit.checkpoint import Leaf, TensorSpec, json_text
from convkit.errors import ConvkitError

#: the item, and its only file
FOLDER = FILE = "metadata"
#: the version of state in plain zarr folders
VERSION = 1.1
_TAG, _TREE, _VARIABLES = "_array_metadata_tag", "train_state_metadata", "mdl_vars"


def read(step: Path) -> dict[str, Any] | None:
    """The metadata of a step folder; None if it has none.

    Raises:
        ConvkitError: not what Pax writes.
    """
    path = step / FOLDER / FILE
    if not path.is_file():
        return None
    try:
        found = json_text.loads(path.read_bytes())
    except ValueError as error:
        raise ConvkitError(f"is not valid JSON: {error}", path=path, remedy="fetch the file again") from None
    if not isinstance(found, dict) or not isinstance(found.get("version"), int | float):
        raise ConvkitError("names no version", path=path, remedy="fetch the file again")
    return found


def listed(metadata: dict[str, Any] | None) -> frozenset[str]:
    """The variables that metadata lists, by the names of their leaves; none where it has no tree."""
    tree = (metadata or {}).get(_TREE)
    variables = tree.get(_VARIABLES) if isinstance(tree, dict) else None
    return frozenset(".".join((_VARIABLES, *path)) for path, entry in _entries(variables, ()) if _is_array(entry))


def dumps(metadata: dict[str, Any]) -> bytes:
    """The text of the file, as Pax writes it."""
    return json.dumps(metadata).encode()


def matching(leaves: Iterable[Leaf], earlier: dict[str, Any] | None = None) -> dict[str, Any]:
    """Metadata for these leaves, keeping the parts of ``earlier`` that aren't about arrays or still hold.

    A padded array has a smaller ``unpadded_shape`` than its leaf; its entry is kept.
    """
    earlier = earlier or {"version": VERSION}
    known = dict(_entries(earlier.get(_TREE, {}).get(_VARIABLES, {}), ()))
    tree: dict[str, Any] = {}
    for path, entry in known.items():
        if not _is_array(entry):
            _put(tree, path, entry)
    for leaf in leaves:
        path = tuple(leaf.key.split("."))
        if leaf.spec and path[0] == _VARIABLES:
            entry = known.get(path[1:])
            _put(tree, path[1:], entry if _may_be(entry, leaf.spec) else _entry(leaf.spec))
    version = min(earlier["version"], VERSION)
    rest = {name: value for name, value in earlier.items() if name not in ("version", _TREE)}
    return {"version": version, **rest, **({_TREE: {_VARIABLES: tree}} if version > 1 else {})}


def _entries(node: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The tree's leaves: arrays, masked nodes, empty nodes."""
    if isinstance(node, dict) and node and _TAG not in node:
        for name, child in node.items():
            yield from _entries(child, (*path, name))
    elif path:
        yield path, node


def _is_array(entry: Any) -> bool:
    return isinstance(entry, dict) and "unpadded_shape" in entry


def _may_be(entry: Any, spec: TensorSpec) -> bool:
    """Whether an earlier entry fits the leaf, padded or not."""
    if not _is_array(entry) or entry.get("dtype") != spec.dtype:
        return False
    shape = entry["unpadded_shape"]
    return len(shape) == len(spec.shape) and all(n <= m for n, m in zip(shape, spec.shape, strict=True))


def _entry(spec: TensorSpec) -> dict[str, Any]:
    return {_TAG: True, "dtype": spec.dtype, "is_optax_masked_node": False, "unpadded_shape": list(spec.shape)}


def _put(tree: dict[str, Any], path: tuple[str, ...], entry: Any) -> None:
    for name in path[:-1]:
        tree = tree.setdefault(name, {})
    tree[path[-1]] = entry
