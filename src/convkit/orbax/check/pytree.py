"""Predict the answer of loading a pytree item: the rules that Orbax's two APIs share, and their differences.

Sources: orbax-checkpoint 0.12.8, ``_src/handlers/{base_pytree,pytree,standard}_checkpoint_handler.py``,
``_src/serialization/{jax_array_handlers,type_handlers,serialization}.py``, ``_src/metadata/sharding.py``; for v1,
``handlers/pytree_handler.py``, which calls the first with its own leaf handlers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from convkit.errors import ConvkitError
from convkit.formats.arrays.zarr import ZarrArray
from convkit.orbax.check.calls import Target
from convkit.orbax.check.devices import foreign
from convkit.orbax.check.outcome import OrbaxError
from convkit.orbax.check.pytree_files import PyTreeFiles
from convkit.orbax.check.shapes import EMPTY, inline_kind, is_placeholder, python_type
from convkit.state.orbax import arrays, texts, tree
from convkit.state.orbax.layout import AGGREGATE
from convkit.state.orbax.nested import nested
from convkit.state.orbax.tree import ARRAY, NDARRAY, SCALAR, STRING, Node

#: dtypes to which jax silently narrows 64-bit arrays if ``jax_enable_x64`` isn't set
NARROWED = {"int64": "int32", "uint64": "uint32", "float64": "float32", "complex128": "complex64"}


class Reader(Enum):
    """The handler that loads: that of v1, or one of three of v0."""

    V1 = "v1"
    BASE = "BasePyTreeCheckpointHandler"
    PYTREE = "PyTreeCheckpointHandler"
    STANDARD = "StandardCheckpointHandler"


@dataclass(frozen=True)
class PyTree(PyTreeFiles):
    """A pytree item, and the number of devices to load it on."""

    devices: int = 1

    def load(self, reader: Reader, target: Target = Target.STORED) -> Any:
        """Describe the loaded tree, with kind, dtype and shape of each leaf.

        Raises:
            OrbaxError: loading fails.
        """
        if reader is Reader.STANDARD and target is Target.STORED:
            self._check_topology()
        elif reader is not Reader.PYTREE:
            self._require_metadata()
            self._check_target(reader)
        if reader in (Reader.V1, Reader.BASE) or (not self._inline and self.tree is not None):
            return self._load(reader, target)
        return self._load_old(reader, target)

    def metadata(self) -> Any:
        """Describe the item as v1's metadata does; random keys appear as their stored arrays.

        Raises:
            OrbaxError: the call fails.
        """
        self.check_metadata()
        known: list[tuple[Node, Any]] = []
        for node in self._nodes():
            if not node.is_array or node.aggregated:
                known.append((node, "str" if node.value_type == STRING else EMPTY.get(node.value_type)))
                continue
            spec = self.array(node).spec
            if node.value_type != SCALAR:
                known.append((node, f"{node.value_type} {spec.dtype}{list(spec.shape)}"))
            elif spec.dtype == "bool":
                raise OrbaxError("TypeError", f"{node.name} is a bool, which v1's metadata doesn't know")
            else:
                known.append((node, python_type(spec.dtype)))
        return nested((node.elements, kind) for node, kind in known)

    @cached_property
    def _inline(self) -> bool:
        """Whether the msgpack file holds leaves itself, and not only placeholders."""
        return any(not (is_placeholder(value) or value is None or value in ({}, [])) for _, value in self.aggregate)

    def _load(self, reader: Reader, target: Target) -> Any:
        assert self.tree is not None
        self._check_nodes()
        strict = reader is Reader.V1 or self.tree.stores_all
        # numpy arrays are read while the shardings of jax arrays are
        leaves = sorted((node for node in self._nodes() if not node.empty), key=lambda node: node.value_type == ARRAY)
        if target is Target.STORED:
            for node in leaves:
                if node.value_type == ARRAY and not node.aggregated:
                    self._check_sharding(node, reader)
        for node in leaves:
            if node.is_array and not node.aggregated:
                self._check_folder(node.name)
        loaded = {node.path: self._leaf(node, reader, target, strict) for node in leaves if not node.aggregated}
        if aside := next((node.name for node in leaves if node.aggregated), None):
            raise OrbaxError("ValueError", f"leaf {aside} lies in the file {AGGREGATE}, which this call doesn't read")
        return nested((node.elements, loaded.get(node.path, EMPTY.get(node.value_type))) for node in self._nodes())

    def _leaf(self, node: Node, reader: Reader, target: Target, strict: bool) -> Any:
        if node.empty:
            return EMPTY.get(node.value_type)
        if node.value_type == STRING:
            return self._string(node)
        kind = node.value_type
        if target is Target.STORED:
            self._check_kind(node)
        if kind not in (ARRAY, SCALAR) or (kind == ARRAY and target is Target.NUMPY):
            kind = NDARRAY
        if kind == ARRAY and target is Target.STORED:
            kind = self._check_sharding(node, reader)
        return self._array(node.place, kind, strict)

    def _check_sharding(self, node: Node, reader: Reader) -> str:
        """The kind that a jax array is loaded as: numpy's if ``StandardCheckpointHandler`` finds no sharding."""
        if self.shardings is None:
            if reader is Reader.STANDARD:
                return NDARRAY
            raise OrbaxError("ValueError", f"no {arrays.SHARDING_FILE} says on which devices {node.name} is to lie")
        text = self._sharding(node)
        if not text and reader is Reader.STANDARD:
            return NDARRAY
        if not text or (problem := foreign(text, self.devices)):
            raise OrbaxError(
                "ValueError", f"{node.name} has no sharding for these devices: {problem if text else 'none is stored'}"
            )
        return ARRAY

    def _sharding(self, node: Node) -> str:
        text = (self.shardings or {}).get(arrays.sharding_key(node.name))
        if text is None:
            raise OrbaxError("ValueError", f"{arrays.SHARDING_FILE} has no entry by which {node.name} is found")
        return text

    def _check_target(self, reader: Reader) -> None:
        """Refuse text in a target, as ``StandardCheckpointHandler`` does."""
        named = [node.name for node in self._nodes() if node.value_type == STRING]
        if reader is Reader.STANDARD and named:
            raise OrbaxError("ValueError", f"{named[0]} is text, which this handler doesn't take in a target")

    def check_metadata(self) -> None:
        """Check that v0 finds the metadata of every leaf.

        Raises:
            OrbaxError: one is missing.
        """
        self._require_metadata()
        self._check_nodes()
        for node in self._nodes():
            if node.is_array and not node.aggregated:
                self._check_kind(node)
                self.array(node)
                if node.value_type == ARRAY and self.shardings is not None:
                    self._sharding(node)

    def _check_topology(self) -> None:
        """Read every leaf's metadata first, from which ``StandardCheckpointHandler`` makes its target."""
        self.check_metadata()
        for node in self._nodes():
            if node.aggregated:
                raise OrbaxError("ValueError", f"leaf {node.name} lies in the file {AGGREGATE}")
            if node.value_type == ARRAY and self.shardings is not None:
                text = self._sharding(node)
                if text and (problem := foreign(text, self.devices)):
                    raise OrbaxError("ValueError", f"saved on other devices than there are: {problem}") from OrbaxError(
                        "ValueError", problem
                    )

    def _load_old(self, reader: Reader, target: Target) -> Any:
        """Load as v0's ``PyTreeCheckpointHandler`` does: by the msgpack file, and by ``_METADATA`` if there is one."""
        if not (self.folder / AGGREGATE).is_file():
            raise OrbaxError("FileNotFoundError", f"neither {tree.FILE} nor {AGGREGATE} lies there")
        kinds = {node.path: node for node in self.tree.nodes} if self.tree else {}
        loaded = []
        for place, value in self.aggregate:
            node = kinds.get(place.path, place)
            if not is_placeholder(value):
                loaded.append((node, inline_kind(value)))
            else:
                loaded.append((node, self._leaf(node, reader, target, strict=False)))
        return nested((node.elements, kind) for node, kind in loaded)

    def _array(self, name: str, kind: str, strict: bool) -> str:
        self._check_folder(name)
        array = self.store.open(name)
        # Orbax wraps errors in reading the chunks of jax arrays
        error = "Exception" if kind == ARRAY else "ValueError"
        absent = next(self.store.lost(name, array), None)
        if absent is None and strict:
            absent = next(self.store.unstored(name, array), None)
        if absent is not None:
            raise OrbaxError(error, f"a chunk is missing: {absent}")
        return self._description(name, kind, array)

    def _check_folder(self, name: str) -> None:
        if not self.ocdbt and not self.store.has_metadata(name):
            raise OrbaxError("FileNotFoundError", f"{name}/{self.store.name} isn't stored")

    def _description(self, name: str, kind: str, array: ZarrArray) -> str:
        spec = array.spec
        if kind == SCALAR:
            return python_type(spec.dtype)
        if kind == ARRAY and name in self.key_algorithms:
            return f"jax.Array key<{self.key_algorithms[name]}>{list(spec.shape[:-1])}"
        dtype = NARROWED.get(spec.dtype, spec.dtype) if kind == ARRAY else spec.dtype
        return f"{kind} {dtype}{list(spec.shape)}"

    def _check_nodes(self) -> None:
        if not self._nodes():
            raise OrbaxError("ValueError", f"{tree.FILE} holds an empty tree")

    def _check_kind(self, node: Node) -> None:
        if node.value_type not in (ARRAY, NDARRAY, SCALAR):
            raise OrbaxError("ValueError", f"{node.name} is of a type that has no handler, {node.value_type}")

    def _string(self, node: Node) -> str:
        if not (self.folder / texts.FILE).is_file():
            raise OrbaxError("ValueError", f"{texts.FILE} isn't there")
        try:
            found = texts.read(self.folder)
        except ConvkitError as error:
            raise OrbaxError("ValueError", f"{texts.FILE} {error.problem}") from None
        if texts.find(found, node.name) is None:
            raise OrbaxError("ValueError", f"{texts.FILE} has no {node.name}")
        return "str"

    def _require_metadata(self) -> None:
        if self.tree is None:
            raise OrbaxError("FileNotFoundError", f"no {tree.FILE} lies there")

    def _nodes(self) -> tuple[Node, ...]:
        return self.tree.nodes if self.tree else ()


#: the pytree item in a folder
Trees = Callable[[Path], PyTree]


def trees_on(devices: int) -> Trees:
    """Gives pytree items to load on ``devices`` devices; each folder's metadata is read once."""
    return cache(lambda folder: PyTree(folder, devices))
