"""``convkit verify`` compares a checkpoint with the receipt of the conversion or repair that made it.

All that the receipt says about the target is checked again: every file that was written (:mod:`convkit.files.written`
says which, and what of each), the digest of every leaf, its config and its complement; and first the receipt itself, by
its seal (:mod:`convkit.files.seal`), for one that was damaged vouches for nothing. A receipt of an earlier release
records neither files nor seal: then sizes, leaves and config are all that is checked, and the verdict says so.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import UNSET

from convkit.checkpoint import Checkpoint
from convkit.checkpoint.digests import BlockDigests, combine, digest_value
from convkit.checkpoint.progress import Meter, Progress, unmeasured
from convkit.checkpoint.threads import workers
from convkit.errors import ConvkitError
from convkit.files.receipt import (
    COMPLEMENT_FORMAT,
    complement_path,
    json_value,
    read_receipt,
    receipt_path,
)
from convkit.formats import OTHERS, open_checkpoint
from convkit.verify.configs import other_config
from convkit.verify.documents import Described, Digested, LeafReceipt, Planned, Receipt, read, read_plan, replace
from convkit.verify.files import edited_plan, other_sizes, verify_files
from convkit.verify.judged import Check, named
from convkit.verify.roundtrip.examine import THREADS
from convkit.verify.roundtrip.faults import LIMIT, changed
from convkit.verify.roundtrip.reconvert import described, stored
from convkit.verify.verdict import Fault, Verdict
from convkit.verify.written import about, seal_of, written_files


def verify(path: Path, *, progress: Progress | None = None) -> Verdict:
    """Check whether a checkpoint still matches its receipt, whatever kind of work wrote it.

    A receipt covers the leaves of its target, or, part by part, its files. ``measured`` counts them, with those
    that were kept beside the target, and their bytes. Each mismatch is a problem, and so is an unreadable file.
    ``progress`` is called with the bytes digested so far and the bytes in all.

    Raises:
        ConvkitError: ``path`` doesn't exist, or has no receipt beside it.
    """
    path = path.absolute()
    receipt = read_receipt(path)
    if not path.exists():
        raise ConvkitError("no such file or folder", path=path, remedy="check the path")
    if receipt is None:
        remedy = f"give an output of convkit; its receipt would be {receipt_path(path).name}"
        raise ConvkitError("has no receipt beside it", path=path, remedy=remedy)
    if "parts" in receipt:
        return verify_files(path, receipt, progress=progress)
    return _verify_leaves(path, receipt, progress)


def _verify_leaves(path: Path, document: Mapping[str, Any], progress: Progress | None) -> Verdict:
    receipt = read(LeafReceipt, document, path)
    check = Check("verify", receipt.source.path, path)
    plan, kept = read_plan(Described, receipt.plan, path), receipt.complement.tensors
    broken, faults = seal_of(path, document)
    if broken:
        return check.judged(broken)
    advance = Meter(_nbytes(path, receipt, plan), progress)
    problems = [*edited_plan(receipt), *other_config(path, plan.target)]
    measured = {"leaves_total": 0, "leaves_failing": 0, "bytes": 0}
    if receipt.written is UNSET:
        problems[1:1] = other_sizes(path, receipt.target)
    else:
        files = written_files(path, receipt)
        altered = files.altered(advance)
        problems += _unnamed(altered, problems)
        measured |= {"files_total": len(files.recorded), "files_failing": len(altered)}
        faults += files.planted()
    sides: list[tuple[Path, str, Mapping[str, Digested], Mapping[str, Planned]]] = [
        (path, receipt.target.format, receipt.target.leaves, plan.target_leaves)
    ]
    if kept:
        sides.append((complement_path(path), COMPLEMENT_FORMAT, kept, plan.source_leaves))
    with ExitStack() as stack:
        opened = []
        for file, format, recorded, planned in sides:
            try:
                opened.append((stack.enter_context(open_checkpoint(file, format)), recorded, planned))
            except ConvkitError as error:
                problems.append(str(error))
        leaves = [leaf for checkpoint, _, _ in opened for leaf in checkpoint.leaves.values()]
        measured["bytes"] = sum(leaf.spec.nbytes for leaf in leaves if leaf.spec)
        for number, (checkpoint, recorded, planned) in enumerate(opened):
            found = _of_leaves(checkpoint, recorded, planned, advance)
            problems += [f"{key}: {problem}" for key, problem in found.items()]
            faults += _planted(checkpoint, recorded, planned, receipt, found) if number == 0 else ()
            measured["leaves_total"] += len(recorded)
            measured["leaves_failing"] += len(found)
    return check.judged(
        problems,
        faults,
        measured=measured,
        bound={name: 0 for name in measured if name.endswith("_failing")},
        deviations=named(plan.deviations),
        plugins=[OTHERS.plugin(receipt.target.format)],
        details=about(receipt),
    )


def _nbytes(path: Path, receipt: LeafReceipt, plan: Described) -> int:
    """The bytes that are to be digested, of leaves and of what else files hold."""
    sides = (receipt.target.leaves, plan.target_leaves), (receipt.complement.tensors, plan.source_leaves)
    specs = [planned[key].spec for recorded, planned in sides for key in recorded if key in planned]
    rest = 0 if receipt.written is UNSET else written_files(path, receipt).nbytes
    return rest + sum(spec.nbytes for spec in specs if spec)


def _unnamed(altered: Mapping[str, str], problems: Iterable[str]) -> list[str]:
    """A problem for each altered file that no other problem names."""
    named = {problem.partition(":")[0] for problem in problems}
    return [f"{name}: {what}" for name, what in altered.items() if name not in named]


def _of_leaves(
    checkpoint: Checkpoint,
    recorded: Mapping[str, Digested],
    planned: Mapping[str, Planned],
    advance: Callable[[int], object] = unmeasured,
) -> dict[str, str]:
    """Find each leaf that differs from the receipt, and say how."""
    problems = {key: "is missing" for key in recorded if key not in checkpoint.leaves}
    there = []
    for key, leaf in checkpoint.leaves.items():
        # plans don't list the cropped parts of leaves
        plan = planned.get(key)
        if key not in recorded:
            problems[key] = "is not in the receipt"
        elif plan and leaf.spec != plan.spec:
            problems[key] = f"is {described(leaf.spec)}, the receipt says {described(plan.spec)}"
        else:
            there.append(key)

    def problem(key: str) -> str:
        digest = recorded[key].digest
        try:
            same = _digest(checkpoint, key, digest.partition(":")[0], advance) == digest
            return "" if same else "its digest differs from the receipt"
        except ConvkitError as error:
            return f"can't be read: {error}"

    sizes = (leaf.spec.nbytes for leaf in checkpoint.leaves.values() if leaf.spec)
    with workers(THREADS, sum(sizes)) as pool:
        found = zip(there, pool.map(problem, there), strict=True)
        return problems | {key: text for key, text in found if text}


def _digest(checkpoint: Checkpoint, key: str, algorithm: str, advance: Callable[[int], object]) -> str:
    leaf = checkpoint.leaves[key]
    if leaf.spec is None:
        return digest_value(algorithm, json_value(leaf.value))
    digests = BlockDigests(algorithm)
    for block in stored(checkpoint, key, leaf.spec)():
        digests.update(block)
        advance(block.nbytes)
    return combine(algorithm, digests.blocks())


def _planted(
    checkpoint: Checkpoint,
    recorded: Mapping[str, Digested],
    planned: Mapping[str, Planned],
    receipt: Receipt,
    failing: Collection[str],
) -> tuple[Fault, ...]:
    """Plant faults in memory, in the smallest leaves that don't fail; the same functions must find them."""
    edited = replace(receipt, plan={**receipt.plan, "planted": True})
    faults = [Fault("the plan edited", bool([*edited_plan(edited)]))]
    for name, changes in _changes(checkpoint, recorded, failing):
        side = changed(checkpoint, changes, changes)
        found = _of_leaves(side, {key: recorded[key] for key in changes}, planned)
        faults.append(Fault(name, bool(found), {"leaf": next(iter(changes))}))
    return tuple(faults)


def _changes(
    checkpoint: Checkpoint, recorded: Mapping[str, Digested], failing: Collection[str]
) -> Iterator[tuple[str, dict[str, np.ndarray | None]]]:
    specs = {key: leaf.spec for key, leaf in checkpoint.leaves.items() if leaf.spec and key not in failing}
    small = [key for key, spec in specs.items() if 0 < spec.nbytes <= LIMIT]
    small.sort(key=lambda key: (specs[key].nbytes, specs[key].dtype, specs[key].shape))
    for key in small[:1]:
        flipped = np.array(checkpoint.read(key))
        flipped.view(np.uint8)[flipped.nbytes // 2] ^= 1
        yield "one flipped bit", {key: flipped}
        yield "a leaf missing", {key: None}
    for one, other in itertools.pairwise(small):
        if specs[one] == specs[other] and recorded[one] != recorded[other]:
            yield "two leaves swapped", {one: checkpoint.read(other), other: checkpoint.read(one)}
            return
