"""Rewrite a ``.mdl`` file with another state: its tensors are copied, then read back.

This serves changes of training state that involve no layout: repairs of old files, loader state. It uses the
shell (:mod:`convkit.execute.publish`) and the engine (:mod:`convkit.execute.carry`), so that a killed run
can be resumed. The new file is read back, leaf by leaf, before it is published with its receipt.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from msgspec.structs import replace

from convkit.checkpoint import Leaf, WriteOptions
from convkit.checkpoint.digests import digest_leaf, digest_value
from convkit.checkpoint.progress import Meter, Progress
from convkit.checkpoint.tensors import carrier as carrier_dtype
from convkit.checkpoint.tensors import value_dtype
from convkit.checkpoint.threads import workers
from convkit.checkpoint.views import Overlay
from convkit.errors import ConvkitError, UsageError
from convkit.execute.carry import Carrier
from convkit.execute.job import copies
from convkit.execute.places import Work
from convkit.execute.publish import Output, publishing
from convkit.files.config_file import find_config
from convkit.files.neighbours import left_beside
from convkit.files.receipt import REPAIR, json_value, same_files
from convkit.files.receipt_json import LeafDigest, RepairedSource, RepairedTarget, RepairReceipt
from convkit.files.staging import StaleError
from convkit.files.unchanged import Watch, identities
from convkit.files.written import Digesting, Span
from convkit.formats.cerebras_h5.reader import CerebrasCheckpoint
from convkit.formats.cerebras_h5.writer import CerebrasWriter
from convkit.migrate.state_plan import (
    PlannedFile,
    PlannedState,
    RepairPlan,
    SourceState,
    TargetState,
    Word,
)
from convkit.plan.figures import Figures

_ALGORITHM = "xxh3-128"
#: space for the structure and for HDF5 itself
_OVERHEAD = 16 << 20


@dataclass(frozen=True)
class State:
    """The contents of the new file: its leaves, the text of their tree spec, and numbers for tensors that change.

    ``reasons`` says why a leaf has changed.
    """

    leaves: Sequence[Leaf]
    spec: str
    reasons: Mapping[str, str]
    numbers: Mapping[str, int] = field(default_factory=dict)


def planned(source: CerebrasCheckpoint, state: State, details: Mapping[str, Any]) -> RepairPlan:
    """Describe as a plan what :func:`restate` will do."""
    fates: dict[str, SourceState] = {}
    origins: dict[str, TargetState] = {}
    for leaf in state.leaves:
        origin: Word = "tied" if leaf.same_as else "derived" if leaf.key in state.reasons else "moved"
        origins[leaf.key] = TargetState(**_described(leaf), origin=origin, reason=state.reasons.get(leaf.key))
    for leaf in source.leaves.values():
        kept = origins.get(leaf.key)
        reason = state.reasons.get(leaf.key) if kept else "replaced"
        fates[leaf.key] = SourceState(**_described(leaf), fate=kept.origin if kept else "dropped", reason=reason)
    nbytes = sum(leaf.spec.nbytes for leaf in state.leaves if leaf.spec and not leaf.same_as)
    return RepairPlan(
        **details,
        source=PlannedFile(format=source.format, path=str(source.path)),
        target=PlannedState(format=source.format, config={}),
        source_leaves=fates,
        target_leaves=origins,
        summary=Figures(
            source_leaves=len(fates),
            target_leaves=len(origins),
            bytes_read=nbytes,
            bytes_written=nbytes,
            peak_bytes=_OVERHEAD,
        ),
    )


def restate(
    source: CerebrasCheckpoint,
    target: Path,
    state: State,
    details: Mapping[str, Any],
    *,
    overwrite: bool = False,
    inplace: bool = False,
    backup: Path | None = None,
    progress: Progress | None = None,
    watch: Watch | None = None,
) -> dict[str, Any]:
    """Write ``target`` and its receipt, which holds the ``details``; return the receipt.

    Args:
        source: an opened checkpoint; it is only read.
        target: a file; with ``inplace`` the source's own path, which is replaced when all is done.
        state: what the target will hold; tensors of the source, by their keys, and any values.
        details: what was done and why, as fields of the plan and of the receipt: ``command``, ``repairs`` or
            ``dataloader``, ``warnings``, ``complement``.
        overwrite: replace an existing target, and the receipt beside it.
        inplace: replace the source.
        backup: the name under which an existing target is kept.
        progress: called with the bytes done so far and the bytes in all: those written, then those read back.
        watch: the files that are read, looked at before the source was opened; if one changes, nothing is published.

    Raises:
        UsageError: the target, or the backup, exists, or can't be replaced.
        ConvkitError: the source can't be read, the disk is full, or the written file differs. Nothing is published.
    """
    _check_target(source.path, target, inplace)
    work = Work(REPAIR, source.path, target, overwrite=overwrite, in_place=inplace, watch=watch)
    document = (plan := planned(source, state, details)).to_json()
    size = plan.summary.bytes_written + _OVERHEAD
    with publishing(work, _identity(source.path, state, document)) as output:
        output.make_room(size)
        _copy_config(source.path, output)
        if backup is not None:
            output.claim(backup.name, aside="move the earlier backup away, or say --no-backup")
        digests = output.attempt(lambda: _write(source, output, state, progress))
        leaf_bytes = _read_back(output.main, state, digests, progress)
        if target.exists():
            shutil.copymode(target, output.main)
        if backup is not None:
            _keep(target, output.out / backup.name)
        return output.publish(
            RepairReceipt,
            document,
            digesting=Digesting(_ALGORITHM, os.cpu_count() or 1, leaf_bytes),
            **details,
            **_sides(source, output, digests),
            tensors=sum(leaf.spec is not None and leaf.same_as is None for leaf in state.leaves),
            bytes_read=plan.summary.bytes_read,
            bytes_written=plan.summary.bytes_written,
        )


def _sides(source: CerebrasCheckpoint, output: Output, digests: Mapping[str, str]) -> dict[str, Any]:
    """What the receipt says of the source and of the target."""
    made = output.main
    return {
        "source": RepairedSource(str(source.path), source.metadata["version"]),
        "target": RepairedTarget(
            path=made.name,
            format=source.format,
            bytes=made.stat().st_size,
            files=same_files(made, [made]),
            leaves={key: LeafDigest(digest) for key, digest in digests.items()},
        ),
    }


def _check_target(source: Path, target: Path, inplace: bool) -> None:
    """Check that the target is a file, and the source only on request.

    Raises:
        UsageError: one of these doesn't hold.
    """
    if target.is_dir():
        raise UsageError("is a folder", path=target, remedy="name a file")
    if not inplace and target.exists() and target.samefile(source):
        raise UsageError("is the checkpoint itself", path=target, remedy="name another file")


def _identity(source: Path, state: State, plan: Mapping[str, Any]) -> dict[str, Any]:
    """What a run must have in common with a killed one to resume it."""
    return {
        "plan": digest_value("sha256", plan),
        "spec": state.spec,
        "numbers": dict(state.numbers),
        "source": identities([source]),
    }


def _described(leaf: Leaf) -> dict[str, Any]:
    """Shape and dtype of a tensor, or the value."""
    if leaf.spec is None:
        return {"shape": None, "dtype": None, "value": json_value(leaf.value)}
    return {"shape": list(leaf.spec.shape), "dtype": leaf.spec.dtype}


def _copy_config(source: Path, output: Output) -> None:
    """Copy the source's config if it wouldn't be found from the target.

    Raises:
        UsageError: something else has the name that it would get.
    """
    config = find_config(source)
    if config is None or find_config(output.target) == config:
        return
    beside = output.target.with_suffix(config.suffix)
    if beside.is_file() and beside.read_bytes() == config.read_bytes() and beside not in left_beside(output.target):
        return
    output.claim(beside.name)
    shutil.copyfile(config, output.out / beside.name)


def _write(source: CerebrasCheckpoint, output: Output, state: State, progress: Progress | None) -> dict[str, str]:
    """Write the file, and return the digest of every leaf."""
    own = {leaf.key: leaf for leaf in state.leaves if leaf.spec and leaf.same_as is None}
    seen = Overlay(source, own, {key: _stored(number, own[key]) for key, number in state.numbers.items()})
    options = WriteOptions(metadata={**source.metadata, "spec": state.spec})
    carrier = Carrier(output.staging, seen, threads=os.cpu_count() or 1, algorithm=_ALGORITHM, progress=progress)
    writer = _writer(source, output, state.leaves, options)
    try:
        carrier.make([replace(job, digest_of=job.key) for job in copies("target", seen)], {"target": writer})
        writer.commit()
    finally:
        writer.close()
    if carrier.taken_over:
        with CerebrasCheckpoint(output.main) as made:
            carrier.check_taken_over("target", made)
    return _digests(state.leaves, carrier.digests["target"])


def _writer(
    source: CerebrasCheckpoint, output: Output, leaves: Sequence[Leaf], options: WriteOptions
) -> CerebrasWriter:
    """The writer, for a file with all attributes that other programs had added to the source."""
    resume = output.staging.resumed and output.main.exists()
    notes = {leaf.key: source.notes(leaf.key) for leaf in leaves if leaf.spec and leaf.same_as is None}
    try:
        return CerebrasWriter(output.main, leaves, options, resume=resume, attributes=source.attributes, notes=notes)
    except ConvkitError as error:
        if resume:
            raise StaleError(f"what a killed run had written {error.problem}") from None
        raise


def _stored(number: int, leaf: Leaf) -> np.ndarray:
    """A number as a tensor holds it."""
    assert leaf.spec
    return np.asarray(number).astype(value_dtype(leaf.spec.dtype)).view(carrier_dtype(leaf.spec.dtype)).reshape(-1)


def _digests(leaves: Sequence[Leaf], made: Mapping[str, str]) -> dict[str, str]:
    """Digest every leaf: a tensor that was made, the tensor that it is tied to, or a value."""
    return {
        leaf.key: made[leaf.same_as or leaf.key] if leaf.spec else digest_value(_ALGORITHM, json_value(leaf.value))
        for leaf in leaves
    }


def _read_back(
    path: Path, state: State, digests: Mapping[str, str], progress: Progress | None
) -> dict[Path, list[Span]]:
    """Read the file back, compare it with its intended contents, and return where tensors lie as they are.

    Raises:
        ConvkitError: it differs.
    """
    with CerebrasCheckpoint(path) as written:
        # repr: a NaN equals itself there, and 1 isn't True
        if repr(list(written.leaves.values())) != repr(list(state.leaves)) or written.metadata["spec"] != state.spec:
            raise ConvkitError("the written file has another structure", path=path, remedy="report this: it is a bug")
        tensors = [leaf.key for leaf in state.leaves if leaf.spec]
        advance = Meter(sum(leaf.spec.nbytes for leaf in state.leaves if leaf.spec), progress)
        with workers(os.cpu_count(), sum(leaf.spec.nbytes for leaf in state.leaves if leaf.spec)) as pool:
            found = pool.map(lambda key: digest_leaf(written, key, _ALGORITHM, advance), tensors)
            for key, digest in zip(tensors, found, strict=True):
                if digest != digests[key]:
                    raise ConvkitError(
                        "the written file differs from the source", path=path, key=key, remedy="check the disk"
                    )
        return written.leaf_bytes()


def _keep(target: Path, backup: Path) -> None:
    """Give an existing target a second name, unless a killed run had."""
    if backup.exists() and backup.samefile(target):
        return
    backup.unlink(missing_ok=True)
    try:
        os.link(target, backup)
    except OSError:  # no links on this file system
        shutil.copy2(target, backup)
