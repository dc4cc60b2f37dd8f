"""Read the files of a pytree item as Orbax reads them, with the errors that Orbax would raise.

Sources: as of :mod:`~convkit.orbax.check.pytree`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from convkit.errors import ConvkitError
from convkit.formats.arrays.zarr import ZarrArray
from convkit.orbax.check import json_item
from convkit.orbax.check.outcome import OrbaxError
from convkit.orbax.check.stored import Store
from convkit.state import flax_msgpack
from convkit.state.json_object import read_object
from convkit.state.orbax import arrays, tree
from convkit.state.orbax.layout import AGGREGATE, MANIFEST
from convkit.state.orbax.nested import flat
from convkit.state.orbax.tree import NDARRAY, Node, Tree


@dataclass(frozen=True)
class PyTreeFiles:
    """The files of a pytree item."""

    folder: Path

    @cached_property
    def tree(self) -> Tree | None:
        """The content of ``_METADATA``; None if there isn't one.

        Raises:
            OrbaxError: it isn't in the form that Orbax writes.
        """
        path = self.folder / tree.FILE
        if not path.is_file():
            return None
        found = json_item.read(path)
        if not isinstance(found, dict):
            raise OrbaxError("AttributeError", f"{tree.FILE} holds no object")
        try:
            return tree.from_json(found, path, unique=False)
        except ConvkitError as error:
            raise OrbaxError("KeyError", error.problem) from None

    @property
    def ocdbt(self) -> bool:
        """Whether Orbax looks for a database."""
        flag = self.tree.use_ocdbt if self.tree else None
        return (self.folder / MANIFEST).is_file() if flag is None else flag

    @cached_property
    def aggregate(self) -> tuple[tuple[Node, Any], ...]:
        """The leaves of the msgpack file of old releases: values, or placeholders of arrays that lie elsewhere."""
        path = self.folder / AGGREGATE
        if path.is_dir():  # the array of an item that is a single array
            raise OrbaxError("IsADirectoryError", f"{AGGREGATE} is a folder")
        try:
            found = flat(flax_msgpack.load(path)) if path.is_file() else ()
            return tuple((tree.node(place, NDARRAY), value) for place, value in found)
        except ConvkitError as error:
            kind = "ExtraData" if "after its end" in error.problem else "ValueError"
            raise OrbaxError(kind, f"{AGGREGATE} {error.problem}") from None

    @cached_property
    def shardings(self) -> dict[str, str] | None:
        """The file of shardings with its keys, unchanged; None if there isn't one."""
        path = self.folder / arrays.SHARDING_FILE
        try:
            return read_object(path) if path.is_file() else None
        except ConvkitError as error:
            raise OrbaxError("ValueError", error.problem) from None

    @cached_property
    def key_algorithms(self) -> dict[str, str]:
        """The algorithms of typed random keys, by storage name.

        Raises:
            OrbaxError: the file that names them can't be read.
        """
        try:
            found = arrays.read_array_metadatas(self.folder)
        except ConvkitError as error:
            raise OrbaxError("JSONDecodeError", error.problem) from None
        return {name: kind for name, entry in found.items() if (kind := arrays.key_algorithm(entry))}

    @cached_property
    def store(self) -> Store:
        """The store of its arrays."""
        return Store(self.folder, ocdbt=self.ocdbt, version3=bool(self.tree and self.tree.use_zarr3))

    def array(self, node: Node) -> ZarrArray:
        """Open the array that is stored for a leaf.

        Raises:
            OrbaxError: tensorstore can't open it.
        """
        return self.store.open(node.name)
