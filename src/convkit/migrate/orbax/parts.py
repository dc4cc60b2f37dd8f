"""Decide the parts of the output: what becomes of each Orbax checkpoint, and of a root's own metadata.

v0 knows checkpoints that are a pytree themselves; v1 doesn't: there the pytree lies in ``state/``. What the other
API can't express is left out here and kept in the receipt.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from convkit.errors import UsageError
from convkit.formats.orbax.items import true_kind
from convkit.formats.orbax.pytree import Pytree
from convkit.formats.orbax.reader import read_leaves
from convkit.formats.orbax.record import WITH_LEAVES
from convkit.migrate.orbax.can_keep_data import rewrite_reason
from convkit.migrate.orbax.dropping import Dropping
from convkit.migrate.orbax.files import Files, listed, under
from convkit.migrate.orbax.items import STATE, Target, moved, notes_on
from convkit.state.json_object import read_object
from convkit.state.orbax import handlers, root, step
from convkit.state.orbax.layout import SAFETENSORS, STEP, UNFINISHED, Found, Item
from convkit.state.orbax.step import StepMetadata

#: what belongs to a checkpoint, not to the pytree that lies in the same folder
_OF_STEP = (step.FILE, step.COMMIT, step.INDICATOR, step.DELETION)
#: why a leaf or an item isn't in the output
DROPPED = "is dropped"
_COMMITTED = "commit_timestamp_nsecs"


@dataclass(frozen=True)
class Fate:
    """The fate of an item.

    Args:
        item: the item in the source.
        source: its folder below the checkpoint's, "" for the checkpoint's own.
        target: its folder in the output, in the same form.
        kind: its kind in the output.
        handler: its handler in the output; None if it isn't recorded.
        pytree: the content of an item with leaves.
        rewritten: why its arrays must be rewritten; None if its data stays unchanged.
        dropped: storage names of leaves that are left out.
    """

    item: Item
    source: str
    target: str
    kind: str
    handler: str | None
    pytree: Pytree | None = None
    rewritten: str | None = None
    dropped: tuple[str, ...] = ()


@dataclass(frozen=True)
class Part:
    """One checkpoint of the output, or a root's own files.

    Args:
        name: name of its folder in the output; "" for the output itself.
        own: the files that it consists of, by their paths below ``folder``.
        found: the recognised checkpoint or root.
        files: what will lie in the output's folder, except items that are rewritten.
        fates: the fates of its items.
        left_out: what isn't carried, and why.
        notes: notes for the user.
        rewritten: the files of ``own`` that hold rewritten content.
        restored: whether the files are those from before an earlier migration.
    """

    name: str
    found: Found
    own: Files
    files: Files
    fates: tuple[Fate, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    rewritten: frozenset[str] = frozenset()
    restored: bool = False

    @property
    def folder(self) -> Path:
        """Where the source is."""
        return self.found.path


def checkpoint_part(found: Found, name: str, target: Target, drop: Dropping, *, rewrite: str | None = None) -> Part:
    """Make the part for a step, a checkpoint without items, or an item.

    Args:
        found: the recognised checkpoint; not a root.
        name: name of its folder in the output; "" for the output itself.
        target: the API.
        drop: what is left out.
        rewrite: why every pytree is to be rewritten; None to rewrite only those that must be.

    Raises:
        ConvkitError: an item contradicts its metadata, or is incomplete or damaged.
        UsageError: nothing is left.
    """
    own = listed(found.path) if found.path.is_dir() else {}
    single = found.kind != STEP
    files: Files = {key: file for key, file in own.items() if key == step.COMMIT}
    fates, notes, left_out = [], list[str](), dict[str, str]()
    for each in found.items.values():
        item = replace(each, kind=true_kind(each))
        at = item.name or STATE
        dropped = drop.item(name, item.name)
        pytree = read_leaves(item) if item.kind in WITH_LEAVES and not dropped else None
        gone = drop.leaves(name, item.name, _names(pytree)) if pytree and item.kind == handlers.PYTREE else ()
        if dropped or (gone and len(gone) == len(_names(pytree))):
            left_out[item.name] = DROPPED
            continue
        kind = target.kind(item.kind)
        handler = target.handlers.get(kind, item.handler)
        why = (rewrite or rewrite_reason(item, pytree)) if pytree and kind == handlers.PYTREE else None
        why = f"{DROPPED}: {', '.join(gone)}" if gone and not why else why
        fates.append(Fate(item, item.name, at, kind, handler, pytree, why, gone))
        notes += [f"{leaf} {DROPPED}" for leaf in gone]
        notes += [*notes_on(item, kind), *(pytree.notes if pytree else ())]
        if why is None:
            made = moved(item, target, pytree)
            files |= under(at, {key: file for key, file in made.items() if not (single and key in _OF_STEP)})
    if "" in left_out or (left_out and not fates):
        raise UsageError("every leaf and item is dropped", path=found.path, remedy="drop fewer")
    others, beside = ({}, _beside(found)) if single else _others(found)
    left_out |= beside
    notes += [
        f"{folder} isn't an item: copied as it is" for folder in {key.split("/")[0]: 0 for key in others if "/" in key}
    ]
    files |= others | _of_step(found, target, fates)
    anew = frozenset(key for fate in fates if fate.rewritten for key in own if _lies_in(key, fate.source))
    return Part(name, found, own, files, tuple(fates), left_out, tuple(notes), anew)


def _names(pytree: Pytree | None) -> list[str]:
    """The leaves of an item, by storage name."""
    return [*pytree.specs, *pytree.texts] if pytree else []


def _lies_in(name: str, item: str) -> bool:
    """Whether a file of the checkpoint is an item's."""
    return name.startswith(f"{item}/") if item else name not in _OF_STEP


def _of_step(found: Found, target: Target, fates: list[Fate]) -> Files:
    """The checkpoint's own metadata and marker."""
    fields = dict((found.metadata or StepMetadata({})).fields)
    if (old := fields.pop("custom", None)) and not fields.get("custom_metadata"):
        fields["custom_metadata"] = old
    # v1's Checkpointer fails without it; Orbax itself takes the folder's time where it is missing
    fields.setdefault(_COMMITTED, found.path.stat().st_mtime_ns)
    typestrs = {fate.target: fate.handler for fate in fates if fate.handler}
    files: Files = {step.FILE: StepMetadata(fields).with_handlers(typestrs).dumps()}
    return files | {step.INDICATOR: b""} if target.marked else files


def _others(found: Found) -> tuple[Files, dict[str, str]]:
    """The files in a step beside its items: copied unchanged, except unfinished saves and deletions."""
    hidden = step.deleted_item(found.path)
    files: Files = {}
    left_out: dict[str, str] = {}
    for name, origin in listed(found.path).items():
        top = name.partition("/")[0]
        if top == hidden or name == step.DELETION:
            left_out[top] = "is being deleted"
        elif any(mark in top for mark in UNFINISHED):
            left_out[top] = "is an unfinished save"
        elif top not in found.items and name not in _OF_STEP:
            files[name] = origin
    return files, left_out


def _beside(found: Found) -> dict[str, str]:
    """The files beside safetensors, such as a model's config and tokenizer."""
    if found.kind != SAFETENSORS or not found.path.is_dir():
        return {}
    names = sorted(entry.name for entry in found.path.iterdir())
    return {name: "isn't a safetensors file" for name in names if not name.endswith(".safetensors")}


def root_part(found: Found, target: Target) -> Part:
    """Make the part for a root's own metadata, in today's spelling, which both APIs read, without other folders."""
    folder = found.path
    own = under(root.METADATA_FOLDER, listed(folder / root.METADATA_FOLDER))
    files = dict(own)
    file = root.metadata_file(folder)
    if file is not None and (content := root_metadata(folder)) != read_object(file):
        today, before = (f"{root.METADATA_FOLDER}/{name}" for name in root.METADATA_FILES)
        files.pop(before, None)
        files[today] = json.dumps(content).encode()
    known = {path.name for path in found.steps} | {root.METADATA_FOLDER}
    left_out = {}
    for entry in sorted(folder.iterdir()):
        if entry.name not in known:
            unfinished = any(mark in entry.name for mark in UNFINISHED)
            left_out[entry.name] = "is an unfinished save" if unfinished else "isn't a step"
    return Part("", found, own, files, (), left_out, tuple(_name_notes(found, target)))


def root_metadata(folder: Path) -> dict[str, Any]:
    """A root's own metadata in today's spelling: until 0.9.1 the user's alone, until 0.11.5 called ``custom``."""
    file = root.metadata_file(folder)
    if file is None:
        return {}
    content = read_object(file)
    if file.name != root.METADATA_FILES[0]:
        return {"internal_metadata": {}, "custom_metadata": content}
    custom = content.pop("custom", None)
    return {"internal_metadata": {}, "custom_metadata": custom or {}, **content}


def _name_notes(found: Found, target: Target) -> list[str]:
    """The arguments with which a manager finds the steps: they aren't stored on disk."""
    form = root.common_format(path.name for path in found.steps)
    if form is None:
        return ["no single name format finds all its steps: a manager lists only some of them"]
    if form == ("", 0):
        return []
    arguments = ", ".join(
        f"{option}={value!r}"
        for option, value in zip(("step_prefix", "step_format_fixed_length"), form, strict=True)
        if value
    )
    where = "step_name_format=standard_name_format" if target.api == "v1" else "CheckpointManagerOptions"
    return [f"its steps are found with {where}({arguments}): the name format isn't stored"]
