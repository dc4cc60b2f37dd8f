"""Writes ``.mdl`` 0.5 files: tensors in one piece each, uncompressed, at places that are fixed before the first byte.

HDF5 lays out the file (:mod:`convkit.formats.cerebras_h5.skeleton`), and takes no part in writing the tensors. So they
are written by any number of threads without HDF5's lock, the file has the same bytes in any case, and a killed run is
resumed as in every format whose places are known (:mod:`convkit.formats.plain.preallocated`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from convkit.checkpoint import Leaf, WriteOptions
from convkit.errors import ConvkitError
from convkit.files.room import write_at
from convkit.formats.cerebras_h5 import records
from convkit.formats.cerebras_h5.skeleton import lay_out
from convkit.formats.plain.io_errors import unwritable
from convkit.formats.plain.preallocated import FileLayout, PreallocatedWriter
from convkit.state.cerebras import treespec

#: the release whose format is written
_CSTORCH_VERSION = "2.10.0"

NOTHING: Mapping[str, Any] = MappingProxyType({})


class CerebrasWriter(PreallocatedWriter):
    """Writes a ``.mdl`` file.

    ``attributes`` are added to the file's own, and ``notes`` to the attributes of datasets, by the leaf's key.
    """

    def __init__(
        self,
        path: Path,
        leaves: Sequence[Leaf],
        options: WriteOptions,
        *,
        resume: bool = False,
        attributes: Mapping[str, Any] = NOTHING,
        notes: Mapping[str, Mapping[str, Any]] = NOTHING,
    ) -> None:
        self._path = path
        self._leaves = leaves
        self._numpy_arrays = frozenset(options.metadata.get("numpy_arrays", ()))
        attributes = {**attributes, **self._attributes(options)}
        try:
            skeleton = lay_out(path, leaves, attributes, numpy_arrays=self._numpy_arrays, notes=notes)
        except (OSError, RuntimeError) as error:  # what h5py raises for what HDF5 can't hold
            raise unwritable(error, path) from error
        self._success = skeleton.success
        specs = {leaf.key: leaf.spec for leaf in leaves if leaf.spec}
        super().__init__([skeleton.layout], specs, resume=resume, in_parts=options.in_parts, outlet=options.outlet)
        self._frame(skeleton.layout)

    def _frame(self, layout: FileLayout) -> None:
        """Say that all is final that isn't a tensor, except the byte that is written last."""
        places = [(start, start + self._specs[key].nbytes) for key, start in layout.offsets.items()]
        end = 0
        for start, stop in [*sorted([*places, (self._success, self._success + 1)]), (layout.size, layout.size)]:
            if end < start:
                self.framed(self._files[0], end, start)
            end = stop

    def _complete(self) -> None:
        """Say that the file is complete."""
        write_at(self._files[0], self._success, b"\1")
        self.framed(self._files[0], self._success, self._success + 1)

    def _state(self, file: int, layout: FileLayout) -> str:
        """Whole if all of the skeleton is as it would be written."""
        state = super()._state(file, layout)
        same = all(os.pread(file, len(stamp), offset) == stamp for offset, stamp in layout.stamps.items())
        return "other" if state == "whole" and not same else state

    def _attributes(self, options: WriteOptions) -> dict[str, Any]:
        """The root group's attributes: everything that is known before the tensors."""
        tree = self._tree(options.metadata.get("spec"))
        attributes: dict[str, Any] = {
            "__spec__": json.dumps([treespec.template(tree), treespec.dumps(tree)], indent=4),
            "__version__": records.VERSION,
            "__cstorch_version__": _CSTORCH_VERSION,
            "__SUCCESS__": False,
        }
        datasets: set[str] = set()
        by_key = {leaf.key: leaf for leaf in self._leaves}
        for leaf in self._leaves:
            try:
                record = self._record(leaf, by_key)
                stored = record is not None and "__NONE__" not in record.notes
                _check_name(leaf.key, is_dataset=stored)
                if record is not None:
                    attributes[f"{leaf.key}.__metadata__"] = records.dumps(leaf.key, record)
                if stored:
                    datasets.add(leaf.key)
            except ConvkitError as error:
                path = error.path or self._path
                raise ConvkitError(error.problem, path=path, key=leaf.key, remedy=error.remedy) from error
        for key in datasets:
            if any(str(parent) in datasets for parent in Path(key).parents):
                raise ConvkitError(
                    'another tensor has the name before "/"', path=self._path, key=key, remedy="rename one of them"
                )
        return attributes

    def _record(self, leaf: Leaf, by_key: dict[str, Leaf]) -> records.Record | None:
        if leaf.same_as is not None:
            owner = by_key.get(leaf.same_as)
            if owner is None or owner.spec != leaf.spec or owner.same_as is not None:
                raise ConvkitError(f"is tied to {leaf.same_as!r}, which isn't such a tensor", remedy="write it in full")
            return records.of_link(owner.key)
        if leaf.spec is not None:
            return records.of_tensor(leaf.spec, numpy=leaf.key in self._numpy_arrays)
        return None if leaf.value in ([], {}) else records.of_value(leaf)

    def _tree(self, spec: str | None) -> treespec.Tree:
        """The requested structure, checked against the leaves; without one, the original's structure for a model."""
        nodes = {leaf.key: treespec.node_of(leaf) for leaf in self._leaves}
        if len(nodes) < len(self._leaves):
            raise ConvkitError("two leaves have the same name", path=self._path, remedy="rename one of them")
        if spec is None:
            return treespec.flat(nodes.items(), "" if "model" in nodes else "model")
        tree = treespec.loads(spec)
        named = {key: (node.type is None) for key, node in treespec.terminals(tree)}
        for key in named.keys() ^ nodes.keys():
            where = "leaves" if key in named else "spec"
            raise ConvkitError(f"is missing in the {where}", path=self._path, key=key, remedy="write without a spec")
        for key, node in nodes.items():
            if named[key] != (node.type is None):
                raise ConvkitError("is a container in one of spec and leaves", path=self._path, key=key)
        return tree


def _check_name(key: str, *, is_dataset: bool) -> None:
    """Check a name: HDF5 ends it at NUL; in a dataset's name "/" is a group and "." is the current group."""
    if "\0" in key or (is_dataset and any(part in ("", ".") for part in key.split("/"))):
        raise ConvkitError("HDF5 can't hold this name", remedy="rename the leaf")
