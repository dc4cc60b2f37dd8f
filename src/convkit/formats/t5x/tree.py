"""T5X's ``checkpoint`` file: a flax msgpack tree whose leaves are arrays, values, or references to arrays.

Source: t5x ``t5x/checkpoints.py`` (``VERSION``, ``_get_spec``, ``load_t5x_checkpoint``). The file holds
``{"version": 3, "optimizer": tree}``. A partitioned array lies in a zarr folder beside the file, and the tree
holds its tensorstore spec: ``driver``, ``dtype``, ``kvstore`` with the folder's name as ``path`` (before
tensorstore 0.1.14 beside ``kvstore``), ``metadata`` with shape, chunks and compressor. If Orbax saved the checkpoint,
the file is only the tree, and such a leaf is the text ``PLACEHOLDER://<folder>``. Version 2 stored bfloat16 as the bits
of uint16, so its uint16 arrays are read as bfloat16; version 3 (since June 2021) stores bfloat16. Older versions are
not supported, as in T5X.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convkit.errors import ConvkitError
from convkit.formats.arrays import zarr2
from convkit.formats.arrays.zarr import ZarrArray
from convkit.state import flax_msgpack
from convkit.state.flax_msgpack import ArrayBytes

FILE = "checkpoint"
VERSION = 3
PLACEHOLDER = "PLACEHOLDER://"
_SPEC_KEYS = {"driver", "kvstore", "metadata"}
#: first bytes of a dict of two entries whose first key is one of T5X's
HEADS = (b"\x82\xa7version", b"\x82\xa9optimizer")
#: first bytes of TensorFlow's file of the same name
TENSORFLOW_HEAD = b"model_checkpoint_path"


@dataclass(frozen=True, slots=True)
class InFolder:
    """A leaf stored in the folder ``name``, and its metadata if the file has it."""

    name: str
    zarray: ZarrArray | None = None


@dataclass(frozen=True, slots=True)
class Tree:
    """The leaves by name, in file order, and the file's version (None: saved by Orbax)."""

    leaves: dict[str, ArrayBytes | InFolder | Any]
    version: int | None


def read(path: Path) -> Tree:
    """The tree of a ``checkpoint`` file.

    Raises:
        ConvkitError: not T5X's msgpack, a version that T5X doesn't read, or written by TensorFlow.
    """
    with path.open("rb") as file:
        if file.read(len(TENSORFLOW_HEAD)) == TENSORFLOW_HEAD:
            raise ConvkitError(
                "is a TensorFlow checkpoint (Mesh TensorFlow T5), not one of T5X",
                path=path,
                remedy="convert it with T5X's convert_tf_checkpoint first",
            )
    tree = flax_msgpack.load(path)
    if not isinstance(tree, dict):
        raise ConvkitError("is not T5X's: its top level isn't a dict", path=path, remedy="name the checkpoint's folder")
    version = tree.get("version")
    if isinstance(version, int) and set(tree) == {"version", "optimizer"}:
        if version not in (2, VERSION):
            raise ConvkitError(
                f"is of version {version}",
                path=path,
                remedy=f"versions 2 and {VERSION} are known: save it with T5X again",
            )
        return Tree(dict(_leaves(tree["optimizer"], (), path)), version)
    return Tree(dict(_leaves(tree, (), path)), None)


def dumps(leaves: Mapping[str, ArrayBytes | InFolder | Any]) -> bytes:
    """The bytes of the file that describes these leaves. Dicts are sorted, as in jax."""
    tree: dict[str, Any] = {}
    for key in sorted(leaves, key=lambda key: key.split(".")):
        *parents, name = key.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        leaf = leaves[key]
        node[name] = _spec(leaf) if isinstance(leaf, InFolder) else leaf
    return flax_msgpack.dumps({"version": VERSION, "optimizer": tree})


def _leaves(node: Any, where: tuple[str, ...], path: Path) -> Iterator[tuple[str, Any]]:
    """The leaves below a node; empty containers are leaves too."""
    if isinstance(node, dict) and set(node) >= _SPEC_KEYS:
        found = _in_folder(node, where, path)
        yield found.name, found
    elif isinstance(node, str) and node.startswith(PLACEHOLDER):
        name = node.removeprefix(PLACEHOLDER)
        yield name, InFolder(name)
    elif isinstance(node, dict | list) and node:
        children = node if isinstance(node, dict) else {str(i): child for i, child in enumerate(node)}
        for name, child in children.items():
            yield from _leaves(child, (*where, name), path)
    elif where:
        yield ".".join(where), node


def _in_folder(spec: dict[str, Any], where: tuple[str, ...], path: Path) -> InFolder:
    """The array that a tensorstore spec describes."""
    try:
        name = str(spec["kvstore"].get("path") or spec["path"]).strip("/")
        fields = dict(spec["metadata"])
        if "dtype" in spec:
            fields["dtype"] = zarr2.zarr_name(spec["dtype"])
        zarray = zarr2.from_json(fields, path)
    except (KeyError, TypeError, AttributeError):
        raise ConvkitError(
            "isn't described by a T5X tensorstore spec", path=path, key=".".join(where), remedy="fetch it again"
        ) from None
    except ConvkitError as error:
        raise ConvkitError(error.problem, path=path, key=".".join(where), remedy=error.remedy) from None
    return InFolder(name, zarray)


def _spec(leaf: InFolder) -> dict[str, Any]:
    """The tensorstore spec that T5X writes into the tree for an array in a folder."""
    assert leaf.zarray is not None
    fields = leaf.zarray.to_json()
    return {
        "driver": "zarr",
        "dtype": leaf.zarray.spec.dtype,
        "kvstore": {"driver": "file", "path": f"{leaf.name}/"},
        "metadata": {name: fields[name] for name in ("chunks", "compressor", "shape")},
    }
