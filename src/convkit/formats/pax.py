"""``pax``: Paxml checkpoints; reads all their forms, writes version 1.1.

===========  =====================================================================================
1.1          ``checkpoint_<step, 8 digits>/``: ``state/`` with a zarr folder per array, and ``metadata/metadata``
1.2          the same with ``state/`` an OCDBT database
Flax         ``checkpoint_<step>/state/checkpoint``, a flax msgpack; in version 0.0 without ``state``, or as one file
===========  =====================================================================================

The source is a step folder, or the folder or file that directly holds the state. A leaf's key is its folder's name in
1.1: path elements joined with ".", positions in lists after "_", as in
``mdl_vars.params.lm.final_ln.scale`` and ``opt_states_0_2.m.params.lm.final_ln.scale``. OCDBT spells the
latter ``opt_states.0.2.m.params.…``: there an element that is a number is a position, because praxis forbids names that
start with a digit; keys take the spelling of 1.1. The names of Flax's arrays are in the text beside them.

Source: paxml ``checkpoints.py``, ``checkpoint_paths.py``, ``checkpoint_version.py`` at b397693, praxis
``py_utils.py`` at feeaff1 (``extract_prefixed_keys_from_nested_map``, ``NestedMap``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from convkit.checkpoint import Checkpoint, Format, Leaf, WriteOptions, Writer, json_text
from convkit.errors import ConvkitError
from convkit.files.sync import sync_tree
from convkit.formats.arrays import folders as leaf_folders
from convkit.formats.arrays import ocdbt, zarr2
from convkit.formats.arrays.reader import ArrayCheckpoint
from convkit.formats.arrays.store import StoredArray
from convkit.formats.arrays.zarr2_folders import Zarr2FolderWriter
from convkit.state import flax_msgpack
from convkit.state.flax_msgpack import ArrayBytes
from convkit.state.pax import metadata as pax_metadata
from convkit.state.pax import treedef as pax_treedef

_STATE, _FLAX_FILE, _SHARDING = "state", "checkpoint", "_sharding"
_VARIABLES = "mdl_vars."
_STEP = re.compile(r"checkpoint_\d+")
#: a position in a list, or a part that only looks like one: the sizes in the name of a group of stacked optimizer
#: states
_POSITION = re.compile(r"(\.p#[\d.]+)|\.(\d+)(?=\.|$)")
#: first bytes of a dict of two entries whose first key is one of Pax's
_FLAX_HEADS = (b"\x82\xafflattened_state", b"\x82\xb0str_pytree_state")
#: what else may lie in ``state``: Orbax files, which repeat the arrays' metadata, and Orbax databases
_KNOWN = {_FLAX_FILE, _SHARDING, "_METADATA", "d", ocdbt.MANIFEST}
_RESERVED = {*_KNOWN, _STATE, pax_metadata.FOLDER}
_UNFINISHED = (".orbax-checkpoint-tmp", "tmp_")


class Pax(Format):
    """The format.

    A checkpoint's ``metadata`` holds ``container`` (``folders``, ``ocdbt`` or ``flax``), ``pax_metadata`` (the step's
    metadata item, or None), ``notes``, and ``companions`` (what lies beside the state and isn't converted, such as the
    training input's position).

    A step folder with metadata is written if ``options.metadata`` has a ``pax_metadata``, or if it has no such key and
    the target is named ``checkpoint_<step>``. Otherwise, and if the target is named ``state``, the arrays go directly
    into the folder; for ``state`` the metadata, if any, belongs beside it.
    """

    name = "pax"
    same_bytes = True
    in_stores = True
    folder = True
    carried = ("pax_metadata",)
    summary = "Pax: zarr folders (1.1); reads OCDBT (1.2) and Flax msgpack, too"

    def detect(self, path: Path) -> str | None:
        """Recognise arrays named ``mdl_vars.…``, Pax's msgpack, or array folders beside a lone ``_sharding``."""
        if path.is_file():
            return "the file is Pax's msgpack" if _is_flax(path) else None
        for folder in (path, path / _STATE):
            if not folder.is_dir():
                continue
            if _is_flax(folder / _FLAX_FILE):
                return "the folder holds Pax's msgpack"
            if ocdbt.is_database(folder):
                if "\"('mdl_vars', " in _orbax_tree(folder):
                    return "the folder holds a database of arrays named mdl_vars.…"
            elif any(entry.name.startswith(_VARIABLES) and _is_leaf(entry) for entry in folder.iterdir()):
                return "the folder holds arrays named mdl_vars.…"
            elif (folder / _SHARDING).is_file() and all(
                _is_leaf(entry) for entry in folder.iterdir() if entry.name != _SHARDING
            ):
                return f"the folder holds arrays and {_SHARDING}"
        return None

    def open(self, path: Path) -> Checkpoint:
        """Open a step folder, its ``state``, or Flax's file.

        Raises:
            ConvkitError: an unfinished save, not a Pax checkpoint, or arrays that are damaged, incomplete or unnamed.
        """
        if _UNFINISHED[0] in path.name or path.name.startswith(_UNFINISHED[1]):
            raise ConvkitError("is an unfinished save", path=path, remedy="name a checkpoint that was saved completely")
        inner = path / _STATE
        state = inner if inner.is_dir() and not _is_leaf(inner) else path
        flax = state / _FLAX_FILE if state.is_dir() else state
        container, files = "folders", []
        arrays: Mapping[str, StoredArray | ArrayBytes]
        if _is_flax(flax):
            container, arrays, files = "flax", _flax_arrays(flax), [flax]
        elif state.is_file():
            raise ConvkitError("is not Pax's msgpack", path=path, remedy="name the step folder: checkpoint_<step>")
        elif ocdbt.is_database(state):
            container, files = "ocdbt", [file for file in state.rglob("*") if file.is_file()]
            arrays = {_spelled(name): array for name, array in ocdbt.read_arrays(state).items()}
        else:
            arrays = leaf_folders.read_leaves(state)
        if not arrays and not (state / _SHARDING).is_file():
            raise ConvkitError("holds no Pax arrays", path=path, remedy="name the step folder: checkpoint_<step>")
        files += _checked_json(state / _SHARDING, files)
        step = state.parent if state.name == _STATE else path
        metadata = pax_metadata.read(step)
        if metadata is not None and step == path:
            files.append(step / pax_metadata.FOLDER / pax_metadata.FILE)
        array_spec = {key: a.spec if isinstance(a, ArrayBytes) else a.zarray.spec for key, a in arrays.items()}
        return ArrayCheckpoint(
            path,
            self.name,
            leaves={key: Leaf(key, spec) for key, spec in array_spec.items()},
            arrays=arrays,
            metadata={
                "container": container,
                "pax_metadata": metadata,
                "notes": [],
                "companions": _companions(path, state, set(arrays)),
            },
            files=files,
            described=pax_metadata.listed(metadata),
        )

    def create(self, path: Path, leaves: Sequence[Leaf], options: WriteOptions, *, resume: bool = False) -> Writer:
        """Lay out a step folder, or a folder of arrays.

        Raises:
            ConvkitError: a value, or a key that can't be a folder's name. UsageError: chunks that don't fit, or an
                unknown compressor.
        """
        return PaxWriter(path, leaves, options)


class PaxWriter(Zarr2FolderWriter):
    """Writes a folder of arrays, compressed with zstd as Pax does, and the step's metadata."""

    def __init__(self, path: Path, leaves: Sequence[Leaf], options: WriteOptions) -> None:
        for leaf in leaves:
            if leaf.spec is None:
                problem = "is a value, and Pax holds arrays only"
                raise ConvkitError(problem, path=path, key=leaf.key, remedy="leave it out: --drop")
            if leaf.key in _RESERVED:
                raise ConvkitError("is a name that Pax reserves", path=path, key=leaf.key, remedy="rename the leaf")
        earlier = options.metadata.get("pax_metadata")
        named = "pax_metadata" not in options.metadata and _STEP.fullmatch(path.name)
        self._step = path if (earlier or named) and path.name != _STATE else None
        self._has_sibling = bool(earlier) and path.name == _STATE
        self._metadata = pax_metadata.matching(leaves, earlier)
        specs = {leaf.key: leaf.spec for leaf in leaves if leaf.spec}
        super().__init__(path / _STATE if self._step else path, specs, options, zarr2.ZSTD)

    def beside(self) -> dict[str, bytes]:
        """The metadata of the step whose ``state`` is written."""
        item = f"{pax_metadata.FOLDER}/{pax_metadata.FILE}"
        return {item: pax_metadata.dumps(self._metadata)} if self._has_sibling else {}

    def complete(self) -> None:
        """Write the metadata, and an empty ``_sharding``: the reader decides where arrays go."""
        leaf_folders.write_file(self.folder / _SHARDING, b"{}")
        if self._step:
            item = self._step / pax_metadata.FOLDER
            item.mkdir(exist_ok=True)
            leaf_folders.write_file(item / pax_metadata.FILE, pax_metadata.dumps(self._metadata))
            sync_tree(item)


def _spelled(name: str) -> str:
    """A name in OCDBT's spelling, in that of folders.

    >>> _spelled("opt_states.0.p#2.3.4#i0.smdl.i-1.2.m.params.w")
    'opt_states_0.p#2.3.4#i0.smdl.i-1_2.m.params.w'
    """
    return _POSITION.sub(lambda found: found[1] or f"_{found[2]}", name)


def _flax_arrays(path: Path) -> dict[str, ArrayBytes]:
    """The arrays of Pax's msgpack by name."""
    tree = flax_msgpack.load(path)
    state = tree.get("flattened_state")
    # flax turns a list into a dict by position
    arrays = [state.get(str(i)) for i in range(len(state))] if isinstance(state, dict) else state
    if not isinstance(arrays, list) or not all(isinstance(array, ArrayBytes) for array in arrays):
        raise ConvkitError("its flattened_state isn't a list of arrays", path=path, remedy="fetch the file again")
    try:
        names = pax_treedef.leaf_names(str(tree.get("str_pytree_state")))
    except ConvkitError as error:
        raise ConvkitError(error.problem, path=path, key=error.key, remedy=error.remedy) from None
    if len(names) != len(arrays) or len(set(names)) < len(names):
        raise ConvkitError(
            f"its str_pytree_state has {len(set(names))} names, its flattened_state {len(arrays)} arrays",
            path=path,
            remedy="fetch the file again",
        )
    return dict(zip(names, arrays, strict=True))


def _is_flax(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(max(map(len, _FLAX_HEADS))).startswith(_FLAX_HEADS)


def _is_leaf(path: Path) -> bool:
    return (path / zarr2.NAME).is_file()


def _orbax_tree(folder: Path) -> str:
    """Orbax's text description of the tree."""
    path = folder / "_METADATA"
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def _checked_json(path: Path, known: list[Path]) -> list[Path]:
    """The file, if it exists and isn't known yet, after checking that it is JSON."""
    if not path.is_file() or path in known:
        return []
    try:
        json_text.loads(path.read_bytes())
    except ValueError as error:
        raise ConvkitError(f"is not valid JSON: {error}", path=path, remedy="fetch the file again") from None
    return [path]


def _companions(path: Path, state: Path, names: set[str]) -> list[str]:
    """Paths of what lies beside the arrays and the metadata, relative to ``path``."""
    if not path.is_dir():
        return []
    found: list[Any] = [
        entry
        for entry in state.iterdir()
        if entry.name not in _KNOWN | names and not entry.name.startswith("ocdbt.process_")
    ]
    if state != path:
        found += [entry for entry in path.iterdir() if entry.name not in (_STATE, pax_metadata.FOLDER)]
    return sorted(str(entry.relative_to(path)) for entry in found)


FORMAT = Pax()
