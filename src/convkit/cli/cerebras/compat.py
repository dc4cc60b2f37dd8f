"""``convkit cerebras``: replaces ModelZoo's two compatibility scripts, with the same flags.

Source of the flags: ModelZoo release 2.0.2, ``compat/fix_checkpoint_spec.py`` and
``compat/data_iter_state_conversion.py``.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from msgspec import to_builtins

from convkit.checkpoint import Leaf
from convkit.cli.output import ask, emit, note, progress, say, table
from convkit.errors import UsageError
from convkit.execute.publish import writing
from convkit.files.config_file import find_config
from convkit.files.document import typed
from convkit.files.receipt import REPAIR, STATE_SCHEMA, read_receipt, receipt_path, receipts_beside
from convkit.files.receipt_json import Repair, RepairComplement, StreamedWorkers
from convkit.files.staging import Staging, heal
from convkit.files.taken import refuse_taken
from convkit.files.unchanged import Watch
from convkit.formats.cerebras_h5.format import file_of
from convkit.formats.cerebras_h5.reader import CerebrasCheckpoint
from convkit.migrate.restate import State, planned, restate
from convkit.report.text import size
from convkit.state.cerebras.loader_state import (
    BRANCH,
    Workers,
    iterable_state,
    map_state,
    read_workers,
    with_branch,
    workers_of,
    write_workers,
)
from convkit.state.cerebras.repair import Repaired, repaired


def fix_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``fix-checkpoint-spec``."""
    parser.add_argument("checkpoint_path", metavar="CHECKPOINT", type=Path, help="the .mdl file")
    parser.add_argument(
        "--fixed_checkpoint_path",
        "--fixed-checkpoint-path",
        metavar="P",
        type=Path,
        help="the file to write (default: CHECKPOINT with _fixed after its stem)",
    )
    parser.add_argument("--fix_inplace", "--fix-inplace", action="store_true", help="replace CHECKPOINT, once verified")
    parser.add_argument("--yes", action="store_true", help="don't ask before replacing it")
    parser.add_argument(
        "--no-backup", dest="backup", action="store_false", help="don't keep the replaced file as CHECKPOINT.bak"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing P once the new one is complete")
    parser.add_argument("--copy-healthy", action="store_true", help="write P even if there is nothing to repair")
    parser.add_argument("--dry-run", action="store_true", help="show what would be repaired, and write nothing")


def data_iter_state_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``data-iter-state``."""
    parser.add_argument("-c", "--old_checkpoint", metavar="OLD", type=Path, required=True, help="the checkpoint")
    parser.add_argument(
        "-w",
        "--worker_data_iter_files_dir",
        metavar="DIR",
        type=Path,
        required=True,
        help="the folder with the global file and the workers' files; with --reverse, the folder to make",
    )
    parser.add_argument("-o", "--output_file", metavar="OUT", type=Path, help="the checkpoint to write")
    parser.add_argument("-d", "--dataloader_type", choices=("map", "iterable"), default="map", help="default: map")
    parser.add_argument("-s", "--shuffle_seed", metavar="SEED", type=int, default=0, help="for map loaders; default: 0")
    parser.add_argument("--allow-missing-workers", action="store_true", help="continue if worker ids have gaps")
    parser.add_argument("--replace", action="store_true", help="replace the loader state in OLD")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing OUT once the new one is complete")
    parser.add_argument("--dry-run", action="store_true", help="show what would be written, and write nothing")
    parser.add_argument("--reverse", action="store_true", help="write the workers' files from the state in OLD")


def fix(args: argparse.Namespace) -> int:
    """Repair a checkpoint, or show what would be repaired."""
    if args.fix_inplace:
        with writing(args.checkpoint_path):
            heal(args.checkpoint_path.resolve())
    args.checkpoint_path = file_of(args.checkpoint_path)
    target = _target(args)
    watch = args.watch or Watch(args.checkpoint_path)
    watch.reads(_beside(args.checkpoint_path))
    with CerebrasCheckpoint(args.checkpoint_path) as checkpoint:
        found = repaired(checkpoint)
        details = {
            "command": "fix-checkpoint-spec",
            "repairs": [Repair(**asdict(repair)) for repair in found.repairs],
            "warnings": list(found.warnings),
            # what each worker streamed, if the loader state is a sum
            "complement": _complement(args.checkpoint_path) or RepairComplement(tensors={}),
        }
        reasons = {repair.key: repair.why for repair in found.repairs if repair.key in found.leaves}
        state = State(list(found.leaves.values()), checkpoint.metadata["spec"], reasons, found.numbers)
        if args.dry_run or not (found.repairs or args.copy_healthy):
            document = planned(checkpoint, state, details).to_json()
        elif args.fix_inplace and not (args.yes or _agreed(args, found)):
            document = planned(checkpoint, state, details).to_json()
            note("nothing was changed")
        else:
            with progress(f"{args.checkpoint_path} -> {target}") as advance:
                document = restate(
                    checkpoint,
                    target,
                    state,
                    details,
                    overwrite=args.overwrite,
                    inplace=args.fix_inplace,
                    backup=_backup(target) if args.fix_inplace and args.backup else None,
                    progress=advance,
                    watch=watch,
                )
    _warn(found.warnings)
    if args.json:
        emit(document)
    elif not found.repairs:
        copied = f"; copied to {target}" if "plan" in document else ""
        say(f"{args.checkpoint_path}: healthy, nothing was changed{copied}")
    else:
        _show_repairs(found)
        _show(document, target)
    return 0


def _beside(path: Path) -> list[Path]:
    """A checkpoint, and what a repair reads beside it."""
    config = find_config(path)
    return [path, *receipts_beside(path), *([config] if config else [])]


def _target(args: argparse.Namespace) -> Path:
    """Choose the path of the repaired checkpoint.

    Raises:
        UsageError: the arguments give two paths.
    """
    source: Path = args.checkpoint_path
    named: Path | None = args.fixed_checkpoint_path
    if args.fix_inplace:
        if named is not None:
            raise UsageError("--fix_inplace and --fixed_checkpoint_path", remedy="say one of them")
        return source.resolve()  # the target of a link, not the link itself
    return named or source.with_name(f"{source.stem}_fixed{source.suffix}")


def _backup(target: Path) -> Path:
    return target.with_name(f"{target.name}.bak")


def _agreed(args: argparse.Namespace, found: Repaired) -> bool:
    """Ask the user for confirmation, as the original script does."""
    note(f"{args.checkpoint_path}: {len(found.repairs)} repairs")
    answer = ask("Are you sure you want to fix the checkpoint inplace? [y/N]: ")
    if not answer:
        raise UsageError("--fix_inplace asks for confirmation, but got no answer", remedy="say --yes")
    return answer.strip().lower() == "y"


def data_iter_state(args: argparse.Namespace) -> int:
    """Convert the loader state, in either direction."""
    return _put_back(args) if args.reverse else _carry(args)


def _carry(args: argparse.Namespace) -> int:
    """Put the files of release 1.9 into a checkpoint."""
    if args.output_file is None:
        raise UsageError("--output_file is missing", remedy="name the checkpoint to write: -o")
    folder = args.worker_data_iter_files_dir
    watch = args.watch or Watch(args.old_checkpoint)
    watch.reads(folder.iterdir() if folder.is_dir() else ())
    workers = read_workers(folder, allow_missing=args.allow_missing_workers)
    path = file_of(args.old_checkpoint)
    watch.reads(_beside(path))
    kind = args.dataloader_type
    branch = map_state(workers, args.shuffle_seed) if kind == "map" else iterable_state(workers)
    with CerebrasCheckpoint(path) as checkpoint:
        leaves, spec = with_branch(checkpoint, branch, replace_it=args.replace)
        warnings = [f"{name} isn't a worker's file: ignored" for name in workers.ignored]
        step = checkpoint.leaves.get("global_step", Leaf("global_step")).value
        if step not in (None, workers.step):
            warnings.append(f"the files are of data step {workers.step}, the checkpoint of global_step {step}")
        if workers.missing:
            warnings.append(f"worker {', '.join(workers.missing)} has no file of step {workers.step}: left out")
        details = {
            "command": "data-iter-state",
            "dataloader": branch,
            "warnings": warnings,
            "complement": RepairComplement(tensors={}, workers=_recorded(workers)),
        }
        why = f"from the workers' files at data step {workers.step}"
        state = State(leaves, spec, {leaf.key: why for leaf in leaves if leaf.key.split(".")[0] == BRANCH})
        if args.dry_run:
            document = planned(checkpoint, state, details).to_json()
        else:
            with progress(f"{args.old_checkpoint} -> {args.output_file}") as advance:
                document = restate(
                    checkpoint,
                    args.output_file,
                    state,
                    details,
                    overwrite=args.overwrite,
                    progress=advance,
                    watch=watch,
                )
    _warn(warnings)
    if args.json:
        emit(document)
    else:
        table([["worker", "samples"], *workers.samples.items(), ["all", workers.total]])
        say(f"state of {'a map-style' if kind == 'map' else 'an iterable'} loader at data step {workers.step}")
        _show(document, args.output_file)
    return 0


def _put_back(args: argparse.Namespace) -> int:
    """Write a checkpoint's loader state as files of release 1.9."""
    if args.output_file is not None:
        raise UsageError("--output_file with --reverse", remedy="leave it out: the files go to -w")
    folder: Path = args.worker_data_iter_files_dir
    if folder.exists():
        raise UsageError("exists", path=folder, remedy="name a folder to make")
    path = file_of(args.old_checkpoint)
    with CerebrasCheckpoint(path) as checkpoint:
        complement = _complement(path)
        workers = workers_of(checkpoint, _workers(complement.workers) if complement and complement.workers else None)
    if not args.dry_run:
        _make_files(folder.absolute(), workers)
    if args.json:
        emit(
            {"schema": STATE_SCHEMA, "command": "data-iter-state --reverse", "workers": to_builtins(_recorded(workers))}
        )
    else:
        table([["worker", "samples"], *workers.samples.items(), ["all", workers.total]])
        say(f"{folder}: {'not written' if args.dry_run else f'files of data step {workers.step}'}")
    return 0


def _complement(path: Path) -> RepairComplement | None:
    """The complement of the repair that made a checkpoint, if one did.

    Raises:
        ConvkitError: the receipt is malformed.
    """
    receipt = read_receipt(path, REPAIR)
    if receipt is None:
        return None
    return typed(RepairComplement, receipt["complement"], receipts_beside(path)[0], root="$.complement")


def _recorded(workers: Workers) -> StreamedWorkers:
    """Workers as receipts record them."""
    samples = {str(worker): count for worker, count in workers.samples.items()}
    return StreamedWorkers(
        step=workers.step, samples=samples, missing=list(workers.missing), ignored=list(workers.ignored)
    )


def _workers(recorded: StreamedWorkers) -> Workers:
    """What :func:`_recorded` gave."""
    return Workers(recorded.step, {int(worker): count for worker, count in recorded.samples.items()})


def _make_files(folder: Path, workers: Workers) -> None:
    with writing(folder), Staging(folder, lambda: refuse_taken(folder, overwrite=False)) as staging:
        write_workers(staging.out / folder.name, workers)
        staging.publish([folder.name])


def _show_repairs(found: Repaired) -> None:
    rows = [
        [repair.what, repair.key or "the file", "-" if repair.before is None else repair.before, "->", repair.after]
        for repair in found.repairs
    ]
    table([[*row, f"({repair.why})"] for row, repair in zip(rows, found.repairs, strict=True)])


def _show(document: dict[str, Any], target: Path) -> None:
    if "plan" not in document:
        say(f"{target}: not written")
        return
    say(
        f"{target}: {len(document['target']['leaves'])} leaves, {size(document['target']['bytes'])}; "
        f"{document['tensors']} tensors, all compared with the source; receipt {receipt_path(target).name}"
    )


def _warn(warnings: Iterable[str]) -> None:
    for warning in warnings:
        note(f"warning: {warning}")
