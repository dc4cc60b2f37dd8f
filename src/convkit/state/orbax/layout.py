"""Recognises Orbax folders, with reasons: a root, a step with items, a checkpoint without items, an item.

Orbax's own test accepts almost any folder, even an empty one. This one decides by the contents:

=============  ==============================================================================================
root           steps below it, each a checkpoint: folders, or flax files
step           ``orbax.checkpoint``, or ``_CHECKPOINT_METADATA`` with handlers by item; or folders of items
direct         a pytree's own files, not below a step
item           the same below a step
safetensors    ``*.safetensors``, which the v1 API reads
flax           flax's msgpack: one file
=============  ==============================================================================================

A checkpoint is of the v1 API if it has ``orbax.checkpoint``, or if a handler is of the v1 API: the steps of v1's
Checkpointer, and all v1 checkpoints before 0.11.20, have no such file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from convkit.errors import ConvkitError
from convkit.state import flax_msgpack
from convkit.state.orbax import handlers, root, step, tree
from convkit.state.orbax.step import StepMetadata

ROOT, STEP, DIRECT, ITEM, SAFETENSORS, FLAX = "root", "step", "direct", "item", "safetensors", "flax"
#: part of the name of an unfinished save, in every release; and of a v1 partial save
UNFINISHED = (".orbax-checkpoint-tmp", ".partial_save")
#: flax's msgpack in a folder: the structure, and leaves that aren't arrays of their own (until 0.5.22)
AGGREGATE = "checkpoint"
MANIFEST = "manifest.ocdbt"
#: first bytes of a large flax file: fixmap, map 16 or map 32, and a short text of printable ASCII
_FLAX_HEAD = 1 << 12
_FLAX = re.compile(rb"([\x81-\x8f]|\xde..|\xdf....)([\xa1-\xbf]|\xd9.)[ -~]", re.DOTALL)
#: an item that only internal builds of Orbax write, and its reserved name
DESCRIPTOR = "descriptor"
#: files of a pytree item, one of which shows that a folder is one
_PYTREE_FILES = (tree.FILE, AGGREGATE)
_PROCESS_DATABASE = "ocdbt.process_*"


class NotOrbax(ConvkitError):  # noqa: N818 - it describes a path, and isn't one of Orbax's errors
    """The path holds nothing that Orbax wrote."""


@dataclass(frozen=True, slots=True)
class Item:
    """An item of a checkpoint: its kind (of :mod:`~convkit.state.orbax.handlers`), and how it was recognised. ``name``
    is "" for the only pytree of a checkpoint without items. ``file`` is the one file of a JSON, metrics
    or proto item.
    """

    name: str
    path: Path
    kind: str
    why: str
    handler: str | None = None
    file: Path | None = None


@dataclass(frozen=True)
class Found:
    """The contents of a path. ``api`` is ``v0`` or ``v1``; for a root, that of its latest step."""

    path: Path
    kind: str
    api: str
    why: str
    items: Mapping[str, Item] = field(default_factory=dict)
    steps: tuple[Path, ...] = ()
    metadata: StepMetadata | None = None

    @property
    def pytrees(self) -> dict[str, Item]:
        """The items that are pytrees."""
        return {name: item for name, item in self.items.items() if item.kind == handlers.PYTREE}


def recognise(path: Path) -> Found:
    """Recognise the contents of a path.

    Raises:
        NotOrbax: an empty folder, or nothing that Orbax wrote.
        ConvkitError: no such path, an unfinished save, or a checkpoint without items.
    """
    if not path.exists():
        raise ConvkitError("no such file or folder", path=path, remedy="check the path")
    if any(mark in path.name for mark in UNFINISHED):
        raise ConvkitError("is an unfinished save", path=path, remedy="name a checkpoint that was saved completely")
    if path.is_file():
        return _file(path)
    if not any(path.iterdir()):
        raise NotOrbax("the folder is empty", path=path, remedy="name a folder that holds a checkpoint")
    metadata = step.read(path)
    marked = (path / step.INDICATOR).is_file()
    if is_pytree(path) or (metadata and isinstance(metadata.handlers, str)):
        return _pytree(path, metadata)
    steps = _steps(path)
    if not marked and metadata is None and steps:
        api = recognise(steps[-1]).api
        return Found(path, ROOT, api, f"{len(steps)} of its folders are steps", steps=steps)
    items = _items(path, metadata)
    if marked or metadata is not None or items:
        if marked:
            api, why = "v1", f"{step.INDICATOR} lies there"
        elif any(item.handler and handlers.is_v1(item.handler) for item in items.values()):
            api, why = "v1", "its handlers are those of the v1 API"
        else:
            api = "v0"
            why = f"{step.FILE} lies there" if metadata else f"its folders are items: {', '.join(sorted(items))}"
        if not items:
            raise ConvkitError(
                "is a checkpoint without items", path=path, remedy="it was deleted or never filled; name another step"
            )
        return Found(path, STEP, api, why, items, metadata=metadata)
    kind, why, file = _content(path)
    if file and any((path.parent / name).is_file() for name in (step.FILE, step.INDICATOR)):
        raise ConvkitError(
            f"is an item of kind {kind} ({why}), which has no leaves", path=path, remedy=f"name its step, {path.parent}"
        )
    if any(path.glob("*.safetensors")):
        return Found(path, SAFETENSORS, "v1", "safetensors files lie there")
    unfinished = [entry.name for entry in path.iterdir() if any(mark in entry.name for mark in UNFINISHED)]
    if unfinished:
        raise ConvkitError(
            f"holds only an unfinished save, {sorted(unfinished)[0]}", path=path, remedy="save the checkpoint again"
        )
    raise NotOrbax(
        f"holds nothing that Orbax wrote: no {tree.FILE}, {step.FILE} or {step.INDICATOR}, nor folders with them",
        path=path,
        remedy="name a root, a step or an item",
    )


def _file(path: Path) -> Found:
    if path.suffix == ".safetensors":
        return Found(path, SAFETENSORS, "v1", "the file is named *.safetensors")
    if _is_flax(path):
        why = "the file begins like flax's msgpack"
        return Found(path, FLAX, "v0", why, {"": Item("", path, handlers.PYTREE, why)})
    raise NotOrbax("is a file, not a checkpoint", path=path, remedy="name the folder of the checkpoint")


def _is_flax(file: Path) -> bool:
    """Whether the file is flax's msgpack: a map with a text as its first key; a small file is parsed completely."""
    with file.open("rb") as opened:
        head = opened.read(_FLAX_HEAD)
    if not _FLAX.match(head):
        return False
    if len(head) == _FLAX_HEAD:
        return True
    try:
        return bool(flax_msgpack.load(file))
    except ConvkitError:
        return False


def is_pytree(folder: Path) -> bool:
    """Recognise a pytree by its tree, or by its database alone; opening it then reports what is missing."""
    return (
        any((folder / name).is_file() for name in _PYTREE_FILES)
        or (folder / MANIFEST).is_file()
        or any(folder.glob(_PROCESS_DATABASE))
    )


def _pytree(path: Path, metadata: StepMetadata | None) -> Found:
    parent = step.read(path.parent)
    below = parent is not None or (path.parent / step.INDICATOR).is_file()
    of_parent = parent.handlers if parent else None
    handler = metadata.handlers if metadata else of_parent.get(path.name) if isinstance(of_parent, dict) else None
    typestr = handler if isinstance(handler, str) else None
    name = next((file for file in _PYTREE_FILES if (path / file).is_file()), MANIFEST)
    item = Item("", path, handlers.PYTREE, f"{name} lies there", typestr)
    api = "v1" if typestr and handlers.is_v1(typestr) else "v0"
    kind = ITEM if below else DIRECT
    return Found(path, kind, api, f"{name} lies in the folder itself", {"": item}, metadata=metadata)


def _steps(path: Path) -> tuple[Path, ...]:
    """The steps below a folder, in order: checkpoints in folders with a step's name."""
    found = []
    for entry in path.iterdir():
        name = root.parse_step(entry.name)
        if name is None or any(mark in entry.name for mark in UNFINISHED):
            continue
        if entry.is_file():
            if _is_flax(entry):
                found.append((name.step, entry))
            continue
        if (
            (entry / step.FILE).is_file()
            or (entry / step.INDICATOR).is_file()
            or is_pytree(entry)
            or _items(entry, None)
        ):
            found.append((name.step, entry))
    return tuple(entry for _, entry in sorted(found))


def _items(path: Path, metadata: StepMetadata | None) -> dict[str, Item]:
    """The item folders of a checkpoint; those of unknown kind only if the metadata names them."""
    named = metadata.handlers if metadata and isinstance(metadata.handlers, dict) else {}
    hidden = step.deleted_item(path)
    items = {}
    for folder in sorted(entry for entry in path.iterdir() if entry.is_dir()):
        name = folder.name
        if name in (hidden, DESCRIPTOR) or any(mark in name for mark in UNFINISHED):
            continue
        handler = named.get(name)
        kind, why, file = _content(folder)
        by_handler = handlers.kind_of(handler) if handler else handlers.UNKNOWN
        if by_handler != handlers.UNKNOWN and kind != handlers.METRICS:
            kind, why = by_handler, f"its handler is {str(handler).rpartition('.')[2]}"
        if named and not handler and kind == handlers.PYTREE and not _has_tree(folder):
            continue  # another program's file of the same name
        if handler or kind != handlers.UNKNOWN:
            items[name] = Item(name, folder, kind, why, handler, file)
    return items


def _has_tree(folder: Path) -> bool:
    """Whether the file that should describe a pytree could do so, or doesn't exist."""
    path = folder / tree.FILE
    return not path.is_file() or path.read_bytes().lstrip().startswith(b"{")


def _content(folder: Path) -> tuple[str, str, Path | None]:
    """An item's kind by its files, the reason, and its one file."""
    if folder.name == "metrics" and (file := folder / "metrics").is_file():
        return handlers.METRICS, "metrics lies there", file
    for name in ("jax_random_key", "np_random_key"):
        if (folder / f"{name}_metadata").is_dir():
            return handlers.RANDOM_KEY, f"{name} lies there", None
    if (folder / AGGREGATE / ".zarray").is_file():
        return handlers.ARRAY, f"{AGGREGATE} is an array", None
    if is_pytree(folder):
        name = next((name for name in _PYTREE_FILES if (folder / name).is_file()), MANIFEST)
        return handlers.PYTREE, f"{name} lies there", None
    for name, kind in (("data.json", handlers.JSON), ("metadata", handlers.JSON), ("proto.pbtxt", handlers.PROTO)):
        if (folder / name).is_file():
            return kind, f"{name} lies there", folder / name
    return handlers.UNKNOWN, "nothing known lies there", None
