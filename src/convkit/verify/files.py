"""Compare files with a receipt: their sizes after a conversion or a repair, every byte after a migration.

A migrated checkpoint is also migrated back and compared with its source, byte by byte. Each file that differs is named,
with the leaves whose data it holds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import UNSET

from convkit.checkpoint import Checkpoint
from convkit.checkpoint.digests import digest_value
from convkit.checkpoint.progress import Meter, Progress, unmeasured
from convkit.errors import ConvkitError
from convkit.formats.arrays.folders import METADATA
from convkit.formats.arrays.ocdbt import DatabaseArray, is_database, read_arrays
from convkit.formats.orbax.reader import open_orbax
from convkit.state.orbax import tree
from convkit.verify.blocks import same_bits
from convkit.verify.documents import FileReceipt, MigrationPlan, Receipt, Target, read, read_plan, replace
from convkit.verify.judged import Check
from convkit.verify.verdict import Fault, Verdict
from convkit.verify.written import Files, Listing, about, bytes_of, seal_of, size, spoiled, written_files

#: bytes of a file that are compared at a time
_BLOCK = 1 << 20
#: most leaves that a problem names
_SHOWN = 3
#: the problem of files and leaves that only the target has
_STRANGER = "isn't in the source"


def edited_plan(receipt: Receipt) -> Iterator[str]:
    """Yield a problem unless the receipt's plan has the digest that the receipt gives."""
    if digest_value("sha256", receipt.plan) != receipt.plan_digest:
        yield "the receipt's plan doesn't have the digest that the receipt gives it: it was edited"


def other_sizes(path: Path, target: Target) -> Iterator[str]:
    """Yield a problem for each file that is missing or whose size differs from the receipt.

    A target that is one file may have been renamed together with its receipt. Early receipts list the files of a folder
    of arrays without their folders, so that names repeat.
    """
    recorded = Counter((entry.name, entry.bytes) for entry in target.files)
    if len({name for name, _ in recorded}) < recorded.total():
        found = Counter((file.name, file.stat().st_size) for file in path.rglob("*") if file.is_file())
        for (name, size), number in (recorded - found).items():
            yield f"{name}: {number} files of {size} bytes are missing"
        return
    for name, size in recorded:
        file = path / name if path.is_dir() else path
        if not file.is_file():
            yield f"{name}: the file is missing"
        elif file.stat().st_size != size:
            yield f"{name}: the file has {file.stat().st_size} bytes, the receipt says {size}"


def verify_files(path: Path, document: Mapping[str, Any], *, progress: Progress | None = None) -> Verdict:
    """Check whether a migrated checkpoint still has the files of its receipt.

    ``measured`` counts files and bytes. Each file that differs is a problem. ``progress`` is called with the bytes
    digested so far and the bytes in all.
    """
    receipt = read(FileReceipt, document, path)
    check = Check("verify", receipt.source.path, path)
    broken, faults = seal_of(path, document)
    if broken:
        return check.judged(broken)
    if receipt.written is UNSET:
        recorded = {_joined(part.name, name): file for part in receipt.parts for name, file in part.files.items()}
        listing = Listing(dict(_files(path)), recorded)
    else:
        listing = written_files(path, receipt)
    altered = listing.altered(Meter(listing.nbytes, progress))
    problems = [*edited_plan(receipt), *(f"{name}: {what}{_leaves(path, name)}" for name, what in altered.items())]
    faults += [Fault("the plan edited", any(edited_plan(replace(receipt, plan={**receipt.plan, "planted": True}))))]
    faults += listing.planted()
    return check.judged(
        problems,
        faults,
        measured={
            "files_total": len(listing.recorded),
            "files_failing": len(altered),
            "bytes": sum(file.bytes for file in listing.recorded.values()),
        },
        bound={"files_failing": 0},
        details=about(receipt),
    )


def same_source(
    source: Path, back: Path, document: Mapping[str, Any], check: Check, *, progress: Progress | None = None
) -> Verdict:
    """Check whether ``back``, the target migrated back, equals the source.

    Files are compared, except those of items that were rewritten, whose leaves are compared, and those that the
    migration left out.

    Args:
        source: the checkpoint that was migrated.
        back: the target, migrated back.
        document: the receipt of the migration.
        check: the round trip, begun before the target was migrated back.
        progress: called with the bytes compared so far and the bytes in all: first of leaves, then of files.

    Raises:
        ConvkitError: one of them can't be read.
    """
    receipt = read(FileReceipt, document)
    plan = read_plan(MigrationPlan, receipt.plan)
    dropped = {key for key, leaf in plan.source_leaves.items() if leaf.get("fate") == "dropped"}
    ours: Files = dict(_files(source))
    theirs: Files = dict(_files(back))
    problems: list[str] = []
    leaves = 0
    for part in receipt.parts:
        for name in part.left_out:
            ours = _without(ours, _joined(part.name, name))
        anew = [item for item in part.items.values() if item.rewritten]
        if anew:
            one, other = (_in(folder, part.name) for folder in (source, back))
            names = [part.name, *(_joined(part.name, item.source) for item in anew)]
            count, wrong = _differing_leaves(one, other, dropped, names, left_out=part.left_out, progress=progress)
            leaves, problems = leaves + count, problems + wrong
            for item in anew:
                inside = _joined(part.name, item.source)
                ours, theirs = _without(ours, inside), _without(theirs, inside)
    if plan.request.steps:
        kept = tuple(f"{part.name}/" for part in receipt.parts if part.name)
        ours = {name: file for name, file in ours.items() if name.startswith((*kept, "metadata/"))}
    advance = Meter(sum(size(file) for name, file in ours.items() if name in theirs), progress)
    problems += _differing(ours, theirs, advance)
    faults = [
        Fault(name, any(_differing({key: ours[key] for key in keys if key in ours}, files)))
        for name, files, keys in spoiled(theirs)
    ]
    return check.judged(
        problems,
        faults,
        measured={
            "files": len(ours),
            "leaves_written_anew": leaves,
            **({"leaves_dropped": len(dropped)} if dropped else {}),
            "different": len(problems),
        },
        bound={"different": 0},
        details={"exactness": "bit by bit"},
    )


def _leaves(path: Path, name: str) -> str:
    """The leaves whose data a file holds, for the end of a sentence; empty if that isn't known."""
    file = path / name
    item = next((folder for folder in file.parents if (folder / tree.FILE).is_file()), None)
    if item is None or not item.is_relative_to(path):
        return ""
    folder = next((folder for folder in file.parents if any((folder / text).is_file() for text in METADATA)), None)
    if folder is not None and folder.is_relative_to(item):
        held = ["the array" if folder == item else folder.relative_to(item).as_posix()]
    else:
        held = [key for key, array in _in_database(item).items() if any(other.samefile(file) for other in array.files)]
    more = f" and {len(held) - _SHOWN} more" if len(held) > _SHOWN else ""
    return f" (it holds {', '.join(held[:_SHOWN])}{more})" if held else ""


def _in_database(item: Path) -> Mapping[str, DatabaseArray]:
    """The arrays of an item's database; none if it can't be read."""
    try:
        return read_arrays(item) if is_database(item) else {}
    except ConvkitError:
        return {}


def _differing(ours: Files, theirs: Files, advance: Callable[[int], object] = unmeasured) -> Iterator[str]:
    for name in sorted({*ours, *theirs}):
        if name not in ours or name not in theirs:
            yield f"{name}: {'is missing' if name not in theirs else _STRANGER}"
        elif not _equal(ours[name], theirs[name], advance):
            yield f"{name}: its bytes differ from the source"


def _equal(one: Path | bytes, other: Path | bytes, advance: Callable[[int], object]) -> bool:
    if isinstance(one, Path) and isinstance(other, Path):
        if one.samefile(other):  # one file under two names
            advance(size(one))
            return True
        with one.open("rb") as ours, other.open("rb") as theirs:
            while block := ours.read(_BLOCK):
                if block != theirs.read(_BLOCK):
                    return False
                advance(len(block))
            return not theirs.read(1)
    return bytes_of(one) == bytes_of(other)


def _differing_leaves(
    source: Path,
    back: Path,
    dropped: Collection[str],
    folders: Sequence[str],
    *,
    left_out: Collection[str] = (),
    progress: Progress | None = None,
) -> tuple[int, list[str]]:
    """Compare leaves: return how many were compared, and the problems found. Those that were ``dropped``, by the plan's
    names, which begin with one of ``folders``, must be missing. The items that were ``left_out`` aren't read.
    """
    with open_orbax(source, left_out) as one, open_orbax(back) as other:
        wrong = []
        advance = Meter(sum(leaf.spec.nbytes for leaf in one.leaves.values() if leaf.spec), progress)
        gone = {key for key in one.leaves if dropped and any(_joined(name, key) in dropped for name in folders)}
        for key in {*one.leaves, *other.leaves}:
            if key in gone and key not in other.leaves:
                continue
            if key not in one.leaves or key not in other.leaves:
                wrong.append(f"{key}: {'is missing' if key in one.leaves else _STRANGER}")
            elif not _same_leaf(one, other, key, advance):
                wrong.append(f"{key}: differs from the source")
        return len(one.leaves.keys() - gone), wrong


def _same_leaf(one: Checkpoint, other: Checkpoint, key: str, advance: Meter) -> bool:
    ours, theirs = one.leaves[key], other.leaves[key]
    if ours.spec is None or ours.spec != theirs.spec:
        return ours == theirs
    return same_bits(one, key, other, key, advance)


def _files(folder: Path) -> Iterable[tuple[str, Path]]:
    if folder.is_file():
        return [(folder.name, folder)]
    return ((file.relative_to(folder).as_posix(), file) for file in sorted(folder.rglob("*")) if file.is_file())


def _in(folder: Path, name: str) -> Path:
    return folder / name if name else folder


def _joined(*names: str) -> str:
    return "/".join(name for name in names if name)


def _without(files: Files, folder: str) -> Files:
    """The files outside a folder; "" is the folder of all."""
    return {
        name: file for name, file in files.items() if folder and name != folder and not name.startswith(f"{folder}/")
    }
