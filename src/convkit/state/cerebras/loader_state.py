"""The position of a training's data loaders: release 1.9's files per worker, and the ``dataloader`` branch since 2.0.

Release 1.9 (ModelZoo, ``transformers/data_processing/HDF5IterableDataset.py``): a folder with
``data_iter_checkpoint_state_file_global``, which holds the data step, and for each worker and step
``data_iter_state_file_worker_<id>_step_<step>.txt``, whose first line is the number of samples that the worker has
streamed.
Since 2.0 (``compat/data_iter_state_conversion.py`` of 2.0.2) the checkpoint holds ``{"samples_streamed", "seed"}`` for
a map-style loader, and ``{"all_worker_states": [{"samples_streamed", "shard_index"}]}`` for an iterable one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeGuard

from msgspec.structs import replace

from convkit.checkpoint import Checkpoint, Leaf
from convkit.errors import ConvkitError
from convkit.state.cerebras import treespec
from convkit.state.cerebras.treespec import LEAF, Tree, dict_of

BRANCH = "dataloader"
GLOBAL = "data_iter_checkpoint_state_file_global"
_WORKER = re.compile(r"data_iter_state_file_worker_(\d+)_step_(\d+)\.txt")
#: most digits of a number, far beyond any count
_DIGITS = 100
_STATES = f"{BRANCH}.all_worker_states"
_SUM = f"{BRANCH}.samples_streamed"


@dataclass(frozen=True, slots=True)
class Workers:
    """The number of samples that each worker had streamed at a step, by id in order. ``missing`` are the gaps between
    the ids (``3-9``), ``ignored`` the files of the folder that weren't used.
    """

    step: int
    samples: dict[int, int]
    missing: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        """The samples of all workers together."""
        return sum(self.samples.values())


def read_workers(folder: Path, *, allow_missing: bool = False) -> Workers:
    """Read a folder's files for the step that its global file names.

    Raises:
        ConvkitError: a missing folder or file, a file without a number, no worker at that step, two files of one
            worker, or ids other than 0 ... n-1 (unless ``allow_missing``).
    """
    if not folder.is_dir():
        raise ConvkitError("isn't a folder", path=folder, remedy=f"name the one that holds {GLOBAL}")
    step = _number(folder / GLOBAL)
    found: dict[int, Path] = {}
    seen, steps, ignored = set(), set(), []
    for path in sorted(folder.iterdir()):
        match = _WORKER.fullmatch(path.name)
        if match is None:
            ignored += [path.name] if path.name != GLOBAL else []
            continue
        worker, at = int(match[1]), int(match[2])
        seen.add(worker)
        steps.add(at)
        if at == step:
            if worker in found:
                raise ConvkitError(f"is of the same worker as {found[worker].name}", path=path, remedy="remove one")
            found[worker] = path
    if not found:
        there = f"its files are of steps {sorted(steps)}" if steps else "it has no such files"
        raise ConvkitError(f"has no worker's file of step {step}: {there}", path=folder, remedy=f"correct {GLOBAL}")
    missing = tuple(_gaps([*sorted(found), max(seen) + 1]))
    if missing and not allow_missing:
        raise ConvkitError(
            f"has no file of step {step} for worker {', '.join(missing)}",
            path=folder,
            remedy="restore the files, or say --allow-missing-workers",
        )
    return Workers(step, {worker: _number(found[worker]) for worker in sorted(found)}, missing, tuple(ignored))


def write_workers(folder: Path, workers: Workers) -> None:
    """Write release 1.9's files into a new folder."""
    folder.mkdir()
    for worker, samples in workers.samples.items():
        (folder / f"data_iter_state_file_worker_{worker}_step_{workers.step}.txt").write_text(f"{samples}\n")
    (folder / GLOBAL).write_text(f"{workers.step}\n")


def map_state(workers: Workers, seed: int) -> dict[str, Any]:
    """The branch of a map-style loader."""
    return {"samples_streamed": workers.total, "seed": seed}


def iterable_state(workers: Workers) -> dict[str, Any]:
    """The branch of an iterable loader."""
    states = [{"samples_streamed": samples, "shard_index": worker} for worker, samples in workers.samples.items()]
    return {"all_worker_states": states}


def with_branch(
    checkpoint: Checkpoint, branch: Mapping[str, Any], *, replace_it: bool = False
) -> tuple[list[Leaf], str]:
    """A checkpoint's leaves and tree spec with a ``dataloader`` branch added.

    Raises:
        ConvkitError: it already has one, or its outermost container isn't a dict.
    """
    tree = treespec.loads(checkpoint.metadata["spec"])
    if tree.type not in treespec.DICTS:
        raise ConvkitError("isn't a dict of states", path=checkpoint.path, remedy="name a checkpoint of a training")
    children = dict(zip(tree.keys, tree.children, strict=True))
    if BRANCH in children and not replace_it:
        raise ConvkitError("already exists", path=checkpoint.path, key=BRANCH, remedy="add --replace to overwrite it")
    children.pop(BRANCH, None)
    children[BRANCH] = _tree(branch)
    grown = replace(tree, context=dict_of(children).context, children=tuple(children.values()))
    kept = [leaf for key, leaf in checkpoint.leaves.items() if key.split(".")[0] != BRANCH]
    return [*kept, *flat_state(branch, BRANCH)], treespec.dumps(grown)


def workers_of(checkpoint: Checkpoint, record: Workers | None) -> Workers:
    """The workers' states in a checkpoint's ``dataloader`` branch, or in its record if the branch holds only their sum.

    Args:
        checkpoint: one of release 2.0 or later.
        record: what the receipt beside it says of workers; it has the data step, too.

    Raises:
        ConvkitError: no such branch, a sum without a record, no step, or no numbers.
    """
    remembered = record.samples if record else {}
    values = {key: leaf.value for key, leaf in checkpoint.leaves.items() if key.startswith(f"{BRANCH}.")}
    if _SUM in values:
        if sum(remembered.values()) != values[_SUM] or not remembered:
            raise ConvkitError(
                f"is the sum of all workers, {values[_SUM]}: it doesn't show each worker's share",
                path=checkpoint.path,
                key=_SUM,
                remedy="keep the receipt that data-iter-state left beside the checkpoint",
            )
        samples = remembered
    else:
        samples = _iterable(checkpoint, values)
    step = record.step if record and samples == remembered else None
    if step is None:
        step = checkpoint.leaves.get("global_step", Leaf("global_step")).value
    if not _is_count(step):
        raise ConvkitError(
            f"isn't a step: {step!r}", path=checkpoint.path, key="global_step", remedy="name a checkpoint of a training"
        )
    return Workers(step, samples)


def _gaps(ids: list[int]) -> Iterator[str]:
    """The gaps in the ids from 0 on, as ``first-last``."""
    for before, after in pairwise([-1, *ids]):
        if after - before > 1:
            yield f"{before + 1}-{after - 1}" if after - before > 2 else str(before + 1)


def _iterable(checkpoint: Checkpoint, values: Mapping[str, Any]) -> dict[int, int]:
    count = len({key.removeprefix(f"{_STATES}.").split(".")[0] for key in values if key.startswith(f"{_STATES}.")})
    if not count:
        raise ConvkitError(
            "is missing, or holds no worker's state",
            path=checkpoint.path,
            key=_STATES,
            remedy="name a checkpoint that holds the state of an iterable loader",
        )
    found: dict[int, int] = {}
    for position in range(count):
        worker, samples = (values.get(f"{_STATES}.{position}.{name}") for name in ("shard_index", "samples_streamed"))
        if not _is_count(worker) or not _is_count(samples) or worker in found:
            raise ConvkitError(
                f"isn't a worker's state: worker {worker!r}, {samples!r} samples",
                path=checkpoint.path,
                key=f"{_STATES}.{position}",
                remedy="take an earlier checkpoint",
            )
        found[worker] = samples
    return dict(sorted(found.items()))


def _is_count(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _number(path: Path) -> int:
    """The first line, as the original reads it."""
    try:
        with path.open(encoding="utf-8") as file:
            line = file.readline(_DIGITS + 1)
    except OSError as error:
        raise ConvkitError(f"can't be read: {error.strerror}", path=path, remedy="check the folder") from None
    except UnicodeDecodeError:
        line = "bytes that aren't text"
    if not line.strip().isdecimal() or len(line) > _DIGITS:
        raise ConvkitError(f"its first line isn't a number: {line.strip()!r}", path=path, remedy="restore the file")
    return int(line)


def _tree(state: Any) -> Tree:
    if isinstance(state, dict):
        return dict_of({key: _tree(inner) for key, inner in state.items()})
    if isinstance(state, list):
        return replace(treespec.EMPTY_LIST, children=tuple(map(_tree, state)))
    return LEAF


def flat_state(state: Any, key: str) -> Iterator[Leaf]:
    """Values by name, and the names of empty containers."""
    if isinstance(state, dict | list) and state:
        for name, inner in state.items() if isinstance(state, dict) else enumerate(state):
            yield from flat_state(inner, f"{key}.{name}")
    else:
        yield Leaf(key, value=state)
