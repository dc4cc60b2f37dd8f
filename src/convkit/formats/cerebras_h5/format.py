"""``cerebras-h5``: cerebras.pytorch's ``.mdl`` checkpoints in HDF5; reads formats 0.1 to 0.5, writes 0.5.

A state dict is flattened. Each tensor is a dataset named after its leaf: in LZ4 chunks where cerebras.pytorch wrote it,
in one piece and uncompressed where we did. JSON attributes of the root
group hold each leaf's kind and all small values. The structure is in ``__spec__``; ``__SUCCESS__`` is written last.
Formats before 0.5 name all this differently, see :mod:`convkit.formats.cerebras_h5.old`. Source: cerebras-pytorch 2.10
``cerebras/pytorch/storage/{save,load}.py``, cerebras-appliance 2.10 ``storage/h5_storage.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from convkit.checkpoint import Checkpoint, Format, Leaf, WriteOptions, Writer
from convkit.errors import ConvkitError
from convkit.state.cerebras import treespec
from convkit.state.cerebras.restructured import restructured

_MAGIC = b"\x89HDF\r\n\x1a\n"


class CerebrasH5(Format):
    """The format.

    A checkpoint's ``metadata`` holds ``spec`` (the text of the tree spec: container types, int keys),
    ``numpy_arrays`` (the keys that load as numpy arrays, not torch tensors), ``version`` and
    ``cstorch_version``; of an old file also ``tensor_scalar_dicts`` (the dicts that were of that class) and
    ``left_out`` (the tied copies that had no data). Passed on as ``options.metadata`` it restores the same structure.
    Without it, keys that start with ``model.`` go into a dict ``model``, as in the original's converter, and all others
    into the outermost dict.
    """

    name = "cerebras-h5"
    folder = False
    suffixes = (".mdl",)
    ties = True
    in_stores = True
    same_bytes = True
    index_library = "HDF5"
    summary = "Cerebras .mdl: HDF5, format 0.5 (reads those of releases 1.7 to 2.10)"

    def carried_over(
        self, metadata: Mapping[str, Any], moved: Mapping[str, Sequence[str]], leaves: Sequence[Leaf]
    ) -> dict[str, Any]:
        """The structure of a ``.mdl`` source, with the leaves of the target in it; nothing of other sources."""
        if "spec" not in metadata:
            return {}
        wanted = {leaf.key: treespec.node_of(leaf) for leaf in leaves}
        tree = restructured(treespec.loads(metadata["spec"]), moved, wanted)
        numpy = [name for key in metadata.get("numpy_arrays", ()) for name in moved.get(key, ())]
        return {"numpy_arrays": numpy} | ({"spec": treespec.dumps(tree)} if tree else {})

    def detect(self, path: Path) -> str | None:
        """An HDF5 file that is named ``.mdl`` or holds a tree spec, or a folder with one such file."""
        if path.is_dir():
            found = _files(path)
            return f"a folder with one .mdl file, {found[0].name}" if len(found) == 1 else None
        if not path.is_file():
            return None
        with path.open("rb") as file:
            if file.read(len(_MAGIC)) != _MAGIC:
                return None
        if path.suffix == ".mdl":
            return "an HDF5 file named .mdl"
        from convkit.formats.cerebras_h5.hdf5 import UNCOLLECTED, opened

        try:
            with UNCOLLECTED, opened(path) as found:
                return "an HDF5 file with the attribute __spec__" if "__spec__" in found.attrs else None
        except OSError:
            return None

    def open(self, path: Path) -> Checkpoint:
        """Open a ``.mdl`` file, or the one in a folder.

        Raises:
            ConvkitError: truncated, corrupt, incomplete, of another version, or with data in other files.
        """
        from convkit.formats.cerebras_h5.reader import CerebrasCheckpoint

        return CerebrasCheckpoint(file_of(path))

    def create(self, path: Path, leaves: Sequence[Leaf], options: WriteOptions, *, resume: bool = False) -> Writer:
        """Lay out a new ``.mdl`` file.

        Raises:
            ConvkitError: a leaf that the format can't hold, or a spec that doesn't match the leaves.
        """
        from convkit.formats.cerebras_h5.writer import CerebrasWriter

        return CerebrasWriter(path, leaves, options, resume=resume)


def file_of(path: Path) -> Path:
    """The checkpoint's file: the path itself, or the one ``.mdl`` in a folder.

    Raises:
        ConvkitError: no ``.mdl`` file there, or several.
    """
    found = _files(path) if path.is_dir() else [path] if path.exists() else []
    if len(found) != 1:
        problem = f"holds {len(found)} .mdl files" if path.is_dir() else "no such file or folder"
        raise ConvkitError(problem, path=path, remedy="name a .mdl file")
    return found[0]


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.mdl"))


FORMAT = CerebrasH5()
