"""``t5x``: T5X checkpoints; reads all their forms, writes the native one.

===========  =====================================================================================
native       ``checkpoint_<step>/``: a file ``checkpoint`` (:mod:`~convkit.formats.t5x.tree`) and a zarr folder per
array, named by its path joined with "."
one file     the same msgpack with every array inline
by Orbax     ``checkpoint_<step>/state/`` with the same folders, or an OCDBT database; small arrays are inline in
``state/checkpoint``, if it exists
===========  =====================================================================================

A leaf's key is its path below ``optimizer`` joined by ".", like the folder names:
``target.encoder.layers_0.attention.query.kernel``, ``state.param_states.1.0.mu.…``, ``state.step``. Empty
dicts of the tree are value leaves. The folders decide: the msgpack is used only for its inline leaves, and to describe
folders without ``.zarray``. If it names folders that don't exist while others do, it is stale (the original converter
copied it unchanged), and a note says so.

Source: t5x ``t5x/checkpoints.py`` and ``t5x/checkpoint_utils.py`` at cc342d4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from convkit.checkpoint import Checkpoint, Format, Leaf, Opaque, TensorSpec, WriteOptions, Writer
from convkit.errors import ConvkitError
from convkit.files.sync import sync_tree
from convkit.formats.arrays import folders as leaf_folders
from convkit.formats.arrays import ocdbt, zarr2
from convkit.formats.arrays.reader import ArrayCheckpoint
from convkit.formats.arrays.store import StoredArray
from convkit.formats.arrays.zarr2_folders import Zarr2FolderWriter
from convkit.formats.plain.io_errors import written_below
from convkit.formats.t5x import tree as t5x_tree
from convkit.formats.t5x.tree import InFolder, Tree
from convkit.state.flax_msgpack import ArrayBytes

if TYPE_CHECKING:
    import numpy as np

#: prefixes of the folders of parameters and optimizer slots, the last one before 2022
_ROOTS = ("target.", "state.param_states.", "_optimizer.")
_STATE = "state"
#: Orbax files that repeat what the msgpack and the folders say
_ORBAX_FILES = ("_METADATA", "_sharding", "manifest.ocdbt")
_UNFINISHED = (".tmp-", ".orbax-checkpoint-tmp")


class T5X(Format):
    """The format.

    A checkpoint's ``metadata`` holds ``container`` (``native``, ``file`` or ``orbax``), ``version`` of the
    msgpack, ``notes`` (what a user should know), and ``companions`` (files beside the leaves that aren't converted,
    such as the state of the dataset's iterator).
    """

    name = "t5x"
    same_bytes = True
    in_stores = True
    folder = True
    summary = "T5X: a msgpack and zarr folders; reads single files and Orbax saves, too"

    def detect(self, path: Path) -> str | None:
        """Recognise the first key of the msgpack, or folders named like T5X's arrays."""
        if path.is_file():
            return "the file is T5X's msgpack" if _head(path).startswith(t5x_tree.HEADS) else None
        for folder in (path, path / _STATE):
            head = _head(folder / t5x_tree.FILE)
            if head.startswith(t5x_tree.HEADS):
                return f"the folder holds T5X's msgpack, {t5x_tree.FILE}"
            if head == t5x_tree.TENSORFLOW_HEAD:
                return "the folder holds a TensorFlow checkpoint"
            if folder.is_dir() and _has_roots(folder):
                return "the folder holds arrays named target.… or state.param_states.…"
        return None

    def open(self, path: Path) -> Checkpoint:
        """Open a checkpoint folder, its ``state``, or a msgpack file.

        Raises:
            ConvkitError: an unfinished or TensorFlow checkpoint, an unsupported version, a damaged msgpack, folders
                without a description, or a shape that contradicts the msgpack.
        """
        if any(mark in path.name for mark in _UNFINISHED):
            raise ConvkitError("is an unfinished save", path=path, remedy="name a checkpoint that was saved completely")
        base = path
        if path.is_dir():
            base = path / _STATE if (path / _STATE).is_dir() and not _is_leaf(path / _STATE) else path
        elif path.name == t5x_tree.FILE:
            base = path.parent
        return _Reading(path, base).checkpoint()

    def create(self, path: Path, leaves: Sequence[Leaf], options: WriteOptions, *, resume: bool = False) -> Writer:
        """Lay out a native folder: arrays of more than one element in folders, everything else in ``checkpoint``.

        Raises:
            ConvkitError: an object, a uint16 tensor, a leaf below another one, or a key that can't be a folder's name.
            UsageError: chunks that don't fit, or an unknown compressor.
        """
        return T5XWriter(path, leaves, options)


class _Reading:
    """The contents found below one path."""

    def __init__(self, path: Path, base: Path) -> None:
        self.path = path
        self.base = base
        self.notes: list[str] = []
        self.described = base / t5x_tree.FILE if base.is_dir() else base
        self.tree = t5x_tree.read(self.described) if self.described.is_file() else None

    def checkpoint(self) -> Checkpoint:
        """All leaves, in msgpack order, then by name."""
        tree = self.tree or Tree({}, None)
        stored = self._stored(tree)
        if not stored and self.tree is None:
            raise ConvkitError(
                f"holds neither T5X's {t5x_tree.FILE} nor folders of arrays",
                path=self.path,
                remedy="name the folder of one step: checkpoint_<step>",
            )
        self._compare(tree, stored)
        leaves: dict[str, Leaf] = {}
        arrays: dict[str, StoredArray | ArrayBytes] = {}
        for key, entry in tree.leaves.items():
            if key in stored or isinstance(entry, InFolder):
                continue
            if isinstance(entry, ArrayBytes):
                leaves[key], arrays[key] = Leaf(key, entry.spec), entry
            else:
                leaves[key] = Leaf(key, value=entry)
        for key, array in stored.items():
            leaves[key], arrays[key] = Leaf(key, _meant(array.zarray.spec, tree.version)), array
        order = {key: position for position, key in enumerate(tree.leaves)}
        return ArrayCheckpoint(
            self.path,
            FORMAT.name,
            leaves=dict(sorted(leaves.items(), key=lambda item: order.get(item[0], len(order)))),
            arrays=arrays,
            metadata={
                "container": self._container(),
                "version": tree.version,
                "notes": self.notes,
                "companions": self._companions(stored),
            },
            files=[self.described] if self.tree is not None else [],
            described=tree.leaves.keys(),
        )

    def _stored(self, tree: Tree) -> Mapping[str, StoredArray]:
        """The arrays outside the msgpack."""
        if not self.base.is_dir():
            return {}
        if ocdbt.is_database(self.base):
            return ocdbt.read_arrays(self.base)
        said = {key: entry.zarray for key, entry in tree.leaves.items() if isinstance(entry, InFolder)}
        return leaf_folders.read_leaves(self.base, said)

    def _compare(self, tree: Tree, stored: Mapping[str, StoredArray]) -> None:
        """Compare the msgpack with the folders."""
        named = {key: entry for key, entry in tree.leaves.items() if isinstance(entry, InFolder)}
        missing, added = named.keys() - stored.keys(), stored.keys() - named.keys()
        if missing and not added:
            raise ConvkitError(
                f"its folder is missing, as are {len(missing) - 1} others"
                if len(missing) > 1
                else "its folder is missing",
                path=self.base,
                key=min(missing),
                remedy="fetch the checkpoint again",
            )
        if missing:
            self.notes.append(
                f"{t5x_tree.FILE} is stale: it describes {len(missing)} arrays that aren't there (as {min(missing)}) "
                f"and not {len(added)} that are; the folders count"
            )
        elif added and self.tree is not None:
            self.notes.append(f"{t5x_tree.FILE} doesn't describe {len(added)} arrays that are there (as {min(added)})")
        elif self.tree is None and self._container() == "native":
            self.notes.append(f"{t5x_tree.FILE} is missing, and with it the step and other inline leaves")
        recast = []
        for key in sorted(named.keys() & stored.keys()):
            says, found = named[key].zarray, stored[key].zarray
            if says is not None and says.spec.shape != found.spec.shape:
                raise ConvkitError(
                    f"its folder holds shape {list(found.spec.shape)}, {t5x_tree.FILE} says {list(says.spec.shape)}",
                    path=self.base,
                    key=key,
                    remedy="fetch the checkpoint again, or remove the file to take the folders as they are",
                )
            if says is not None and says.spec.dtype != found.spec.dtype:
                recast.append(f"{key} is {found.spec.dtype}, not {says.spec.dtype}")
        if recast:
            self.notes.append(
                f"{t5x_tree.FILE} describes {len(recast)} arrays with another dtype ({recast[0]}); the folders count"
            )

    def _container(self) -> str:
        if not self.base.is_dir():
            return "file"
        by_orbax = any((self.base / name).exists() for name in _ORBAX_FILES) or (
            self.tree is not None and self.tree.version is None
        )
        return "orbax" if by_orbax else "native"

    def _companions(self, stored: Mapping[str, StoredArray]) -> list[str]:
        """Paths of files beside the leaves, relative to ``path``."""
        if not self.path.is_dir():
            return []
        known = {*stored, t5x_tree.FILE, *_ORBAX_FILES}
        if ocdbt.is_database(self.base):
            known |= {"d", *(entry.name for entry in self.base.glob("ocdbt.process_*"))}
        found = [entry for entry in self.base.iterdir() if entry.name not in known]
        if self.base != self.path:
            found += [entry for entry in self.path.iterdir() if entry != self.base]
        return sorted(str(entry.relative_to(self.path)) for entry in found)


class T5XWriter(Zarr2FolderWriter):
    """Writes a native folder. Tensors of at most one element are staged as files, then go inline.

    T5X stores inline what it doesn't partition (the step, counts, Adafactor's placeholders). It partitions variables of
    mutable collections whatever their size (TE's FP8 variables are declared with axes).
    """

    def __init__(self, path: Path, leaves: Sequence[Leaf], options: WriteOptions) -> None:
        self._leaves = {leaf.key: leaf for leaf in leaves}
        for leaf in leaves:
            _check(path, leaf, self._leaves)
        self._beside = path / ".inline"
        small = [leaf.key for leaf in leaves if _goes_inline(leaf)]
        self._small = {key: self._beside / str(position) for position, key in enumerate(small)}
        folders = {leaf.key: leaf.spec for leaf in leaves if leaf.spec and not _goes_inline(leaf)}
        super().__init__(path, folders, options, zarr2.GZIP)

    def write(self, key: str, start: int, data: np.ndarray) -> None:
        """Write whole chunks, or the one element of an inline leaf."""
        if key in self._small:
            self.checked(key, start, data, self._leaves[key].spec)
            with written_below(self.folder):
                self._beside.mkdir(exist_ok=True)
                leaf_folders.write_file(self._small[key], data.tobytes())
        else:
            super().write(key, start, data)

    def sync(self) -> None:
        """Sync what this process has written, and what is to go inline."""
        super().sync()
        if self._beside.is_dir():
            with written_below(self.folder):
                sync_tree(self._beside)

    def complete(self) -> None:
        """Write the msgpack, and only then remove the staged inline tensors."""
        inline: dict[str, Any] = {}
        for key, leaf in self._leaves.items():
            if leaf.spec is None:
                inline[key] = leaf.value
            elif key in self._small:
                try:
                    data = self._small[key].read_bytes() if leaf.spec.size else b""
                except FileNotFoundError:
                    if (self.folder / t5x_tree.FILE).is_file():
                        return  # an earlier process got this far
                    raise ConvkitError(
                        "was not written in full", path=self.folder, key=key, remedy="convert again from the start"
                    ) from None
                inline[key] = ArrayBytes(leaf.spec, (data,))
            else:
                inline[key] = InFolder(key, self.found[key])
        leaf_folders.write_file(self.folder / t5x_tree.FILE, t5x_tree.dumps(inline))
        leaf_folders.remove(self._beside)


def _goes_inline(leaf: Leaf) -> bool:
    return leaf.spec is not None and (leaf.spec.size == 0 or (leaf.spec.size == 1 and not _is_mutable(leaf.key)))


def _is_mutable(key: str) -> bool:
    return key.startswith("flax_mutables.")


def _check(path: Path, leaf: Leaf, leaves: Mapping[str, Leaf]) -> None:
    """Check that T5X's tree can hold the leaf."""
    problem, remedy = "", "rename one of them"
    parts = leaf.key.split(".")
    above = next((key for end in range(1, len(parts)) if (key := ".".join(parts[:end])) in leaves), None)
    value = leaf.value
    if above is not None:
        problem = f"lies below {above}, which is a leaf too"
    elif leaf.spec is not None and leaf.spec.dtype == "uint16" and leaf.spec.size > 1:
        problem, remedy = "is uint16, which T5X reads as version 2's bfloat16", "convert it to int32"
    elif isinstance(value, Opaque):
        problem, remedy = "is a serialized object, which T5X can't hold", "leave it out: --drop"
    elif isinstance(value, str) and value.startswith(t5x_tree.PLACEHOLDER):
        problem, remedy = "is a text that T5X reads as an array's placeholder", "leave it out: --drop"
    elif isinstance(value, int) and not -(2**63) <= value < 2**64:
        problem, remedy = f"is {value}, which needs more than 64 bits", "leave it out: --drop"
    if problem:
        raise ConvkitError(problem, path=path, key=leaf.key, remedy=remedy)


def _meant(spec: TensorSpec, version: int | None) -> TensorSpec:
    """Restore bfloat16, which version 2 stored as uint16 bits."""
    return replace(spec, dtype="bfloat16") if version == 2 and spec.dtype == "uint16" else spec


def _head(path: Path) -> bytes:
    """The first bytes of a file; empty if there is no file."""
    if not path.is_file():
        return b""
    with path.open("rb") as file:
        return file.read(len(t5x_tree.TENSORFLOW_HEAD))


def _is_leaf(folder: Path) -> bool:
    return (folder / zarr2.NAME).is_file()


def _has_roots(folder: Path) -> bool:
    """Whether the folder holds T5X arrays, as folders or in a database."""
    if ocdbt.is_database(folder):
        described = folder / "_METADATA"
        text = described.read_text(encoding="utf-8", errors="replace") if described.is_file() else ""
        return "\"('target', " in text or "\"('state', 'param_states', " in text
    return any(entry.is_dir() and entry.name.startswith(_ROOTS) for entry in folder.iterdir())


FORMAT = T5X()
