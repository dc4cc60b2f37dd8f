"""Migrate an Orbax checkpoint, or a root of them, to the other API: new metadata around the same data.

It uses the shell of all commands that write (:mod:`convkit.execute.publish`). Before the output is published, the real
Orbax restores it, if it is installed, and the result is compared with the source.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from convkit.checkpoint.digests import digest_value
from convkit.checkpoint.progress import Progress
from convkit.execute.places import Work
from convkit.execute.publish import publishing
from convkit.files.receipt import MIGRATION, receipts_beside
from convkit.files.receipt_json import MigratedPart, MigratedSide, MigrationReceipt, Restored
from convkit.files.unchanged import Watch
from convkit.files.written import Digesting
from convkit.migrate.orbax.carry_out import CarryOut
from convkit.migrate.orbax.parts import Part
from convkit.migrate.orbax.plan_json import plan_document
from convkit.migrate.orbax.request import Migration, Request, plan_migration
from convkit.migrate.orbax.restore import restore


def migrate(
    source: Path,
    target: Path,
    request: Request,
    *,
    restored: bool = True,
    overwrite: bool = False,
    algorithm: str = "xxh3-128",
    threads: int | None = None,
    progress: Progress | None = None,
    watch: Watch | None = None,
) -> dict[str, Any]:
    """Write ``target`` and its receipt, and return the receipt. The same call resumes a killed run.

    Args:
        source: a root, a step, a checkpoint without items, an item, or a flax file; it is only read.
        target: a folder that doesn't exist yet.
        request: the migration to do.
        restored: whether the real Orbax is to restore the output, if it is installed.
        overwrite: replace an earlier output of convkit.
        algorithm: algorithm of the files' digests.
        threads: number of threads; by default one per core.
        progress: called with the bytes rewritten so far, and their total.
        watch: one that was made of the source earlier.

    Raises:
        UsageError: the target exists, or lies where it would change the source; there is nothing to do.
        ConvkitError: the source can't be read, or changes meanwhile, the disk is full, or what Orbax restores differs
            from the source. Nothing is left under a final name.
    """
    source, target = source.absolute(), target.absolute()
    watch = watch or Watch(source)
    work = Work(MIGRATION, source, target, overwrite=overwrite, below_source=False, only_own=True, watch=watch)
    migration = plan_migration(source, request)
    watch.reads([*receipts_beside(source), *(file for part in migration.parts for file in _read(part))])
    plan = plan_document(migration)
    document = plan.to_json()
    with publishing(work, _identity(migration, document, algorithm)) as output:
        cores = threads or os.cpu_count() or 1
        parts = output.attempt(CarryOut(migration, output, threads=cores, algorithm=algorithm, progress=progress).run)
        verdict = restore(migration, output.main) if restored else Restored(skipped="--no-restore")
        return output.publish(
            MigrationReceipt,
            document,
            digesting=Digesting(algorithm, threads or os.cpu_count() or 1, known=_digests(parts, output.main)),
            source=MigratedSide(str(source), plan.source.format),
            target=MigratedSide(target.name, plan.target.format),
            parts=parts,
            restored=verdict,
            versions={"python": platform.python_version(), **_versions()},
            bytes_read=plan.summary.bytes_read,
            bytes_written=sum(file.bytes for part in parts for file in part.files.values()),
            warnings=migration.notes,
        )


def _digests(parts: Iterable[MigratedPart], main: Path) -> dict[Path, str]:
    """The digests of all files of these parts below ``main``."""
    return {main / part.name / name: file.digest for part in parts for name, file in part.files.items()}


def _identity(migration: Migration, plan: dict[str, Any], algorithm: str) -> dict[str, Any]:
    """What a run must have in common with a killed one to resume it."""
    return {
        "plan": digest_value("sha256", plan),
        "parts": digest_value("sha256", [_part_identity(part) for part in migration.parts]),
        "copy": migration.request.copy,
        "digest": algorithm,
    }


def _part_identity(part: Part) -> dict[str, Any]:
    """The files that a part is made from: those of the source by size and time, new ones by their bytes."""
    return {
        name: origin.hex() if isinstance(origin, bytes) else [str(origin), *_state(origin)]
        for name, origin in _origins(part).items()
    }


def _origins(part: Part) -> dict[str, Path | bytes]:
    """What each file of a part is made from, by its name."""
    return {**part.own, **part.files} if part.folder.is_dir() else {part.folder.name: part.folder, **part.files}


def _read(part: Part) -> list[Path]:
    """The files of the source that are read for a part."""
    return [origin for origin in _origins(part).values() if isinstance(origin, Path)]


def _state(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _versions() -> dict[str, str]:
    """The versions of the packages involved, if installed."""
    found = {}
    for name in ("orbax-checkpoint", "tensorstore"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
