"""Safetensors as Orbax's v1 API reads them: one flat tree of all files, with unchanged keys.

Source: orbax-checkpoint 0.12.8 ``experimental/v1/_src/layout/safetensors_layout.py``: it reads every ``*.safetensors``
of a folder in name order, ignoring any index. ``__metadata__`` of all files becomes the custom metadata, and a file's
time the commit time.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from convkit.checkpoint.source_files import Span
from convkit.errors import ConvkitError
from convkit.formats.orbax.pytree import Pytree
from convkit.formats.safetensors import SUFFIX, Safetensors
from convkit.state.flax_msgpack import ArrayBytes
from convkit.state.orbax import handlers, tree
from convkit.state.orbax.layout import Found, Item
from convkit.state.orbax.step import StepMetadata


def tensor_files(path: Path) -> list[Path]:
    """The safetensors in a folder, or the file itself; empty if there are none."""
    files = sorted(path.glob(f"*{SUFFIX}")) if path.is_dir() else [path]
    return [file for file in files if file.suffix == SUFFIX]


def as_checkpoint(found: Found) -> Found:
    """A checkpoint without items, with the metadata that v1 reports.

    Raises:
        ConvkitError: a file is damaged.
    """
    files = tensor_files(found.path)
    custom: dict[str, str] = {}
    for file in files:
        with Safetensors().open(file) as opened:
            custom |= opened.metadata
    fields = {"commit_timestamp_nsecs": files[0].stat().st_mtime_ns, "custom_metadata": custom}
    items = {"": Item("", found.path, handlers.PYTREE, found.why)}
    return replace(found, items=items, metadata=StepMetadata(fields))


def read_safetensors(path: Path) -> Pytree:
    """The tree of a file or a folder, whose arrays are left in the files.

    Raises:
        ConvkitError: a file is damaged, or several files hold the same tensor.
    """
    files = tensor_files(path)
    found: dict[str, ArrayBytes] = {}
    for file in files:
        with Safetensors().open(file) as opened:
            for key, leaf in opened.leaves.items():
                if key in found:
                    raise ConvkitError("lies in several files", path=file, key=key, remedy="remove one of them")
                if leaf.spec:
                    place = opened.places[key]
                    found[key] = ArrayBytes(leaf.spec, (Span(place.file, place.offset, leaf.spec.nbytes),))
    nodes = tuple(tree.node(((key, tree.DICT),), tree.NDARRAY) for key in found)
    return Pytree(tree.Tree(nodes, None, None), found, files=tuple(files))
