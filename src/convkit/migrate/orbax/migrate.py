"""Migrating an Orbax checkpoint, or a root of them, to the other API: new metadata around the same data.

The output grows in a staging folder. The real Orbax restores it there, where it is installed, and what it gives is
compared with the source; then it is published with its receipt beside it (:mod:`convkit.files.receipt`).
"""

from __future__ import annotations

import errno
import json
import os
import platform
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import convkit
from convkit.checkpoint.digests import digest_value
from convkit.errors import ConvkitError, UsageError
from convkit.files.receipt import MIGRATION, SCHEMA, receipt_path, receipts_beside
from convkit.files.staging import Staging
from convkit.migrate.orbax.files import make
from convkit.migrate.orbax.plan_json import plan_json
from convkit.migrate.orbax.record import check_unchanged, part_record
from convkit.migrate.orbax.request import Migration, Request, plan_migration
from convkit.migrate.orbax.restore import restore
from convkit.migrate.orbax.rewrite import rewrite


def migrate(
    source: Path,
    target: Path,
    request: Request,
    *,
    restored: bool = True,
    overwrite: bool = False,
    algorithm: str = "xxh3-128",
    threads: int | None = None,
) -> dict[str, Any]:
    """Write ``target`` and its receipt, which is returned.

    Args:
        source: a root, a step, a checkpoint without items, an item, or a file of flax's; it is only read.
        target: a folder that isn't there yet.
        request: what is asked for.
        restored: whether the real Orbax is to restore the output, if it is installed.
        overwrite: replace an earlier migration.
        algorithm: of the files' digests.
        threads: default: one a core.

    Raises:
        UsageError: the target exists, or lies where it would change the source; nothing to do.
        ConvkitError: the source can't be read, the disk is full, or what Orbax restores differs from the source.
            Nothing is left under a final name.
    """
    source, target, threads = source.absolute(), target.absolute(), threads or os.cpu_count() or 1
    _check_target(source, target, overwrite)
    migration = plan_migration(source, request)
    started, begun = time.monotonic(), datetime.now(UTC)
    with Staging(target, {"migration": str(begun)}, overwrite) as staging:
        try:
            folder = staging.out / target.name
            parts = _carry_out(migration, folder, staging.folder / "rewritten", algorithm, threads)
            verdict = restore(migration, folder) if restored else {"skipped": "--no-restore"}
            receipt = _receipt(migration, target, parts, verdict) | {
                "started": begun.isoformat(timespec="seconds"),
                "seconds": round(time.monotonic() - started, 3),
            }
            name = receipt_path(target).name
            (staging.out / name).write_text(json.dumps(receipt, indent=1) + "\n", encoding="utf-8")
            staging.publish([name, target.name])
            for stale in receipts_beside(target):
                if stale.name != name:
                    stale.unlink()  # of what is replaced, by an earlier release
        except OSError as error:
            full = error.errno == errno.ENOSPC
            raise ConvkitError(
                f"can't be written: {error.strerror or error}",
                path=target,
                remedy="free space, or name a target elsewhere" if full else "check permissions, of the source too",
            ) from None
    return receipt


def _check_target(source: Path, target: Path, overwrite: bool) -> None:
    """Neither of the two lies in the other, and what is replaced is a migration.

    Raises:
        UsageError: it is otherwise.
    """
    real, kept = target.resolve(), source.resolve()
    if real == kept or real in kept.parents:
        raise UsageError("is the source, or holds it", path=target, remedy="name another target")
    if kept in real.parents:
        raise UsageError("lies inside the source", path=target, remedy="name a target elsewhere")
    if overwrite and target.exists() and not receipts_beside(target):
        raise UsageError("isn't convkit's work", path=target, remedy="remove it yourself, or name another target")


def _carry_out(migration: Migration, folder: Path, scratch: Path, algorithm: str, threads: int) -> list[dict[str, Any]]:
    """Make every part; returns what the receipt says of each."""
    records = []
    for part in migration.parts:
        place = folder / part.name
        make(place, part.files, link=not migration.request.copy)
        leaves = {
            fate.target: rewrite(
                part.folder, fate, place / fate.target, scratch, migration.request, algorithm=algorithm, threads=threads
            )
            for fate in part.fates
            if fate.rewritten
        }
        record = part_record(part, place, algorithm, threads)
        for name, digests in leaves.items():
            record["items"][name]["leaves"] = digests
        if part.given_back:
            check_unchanged(part, record, migration.earlier[part.name])
        records.append(record)
    return records


def _receipt(
    migration: Migration, target: Path, parts: list[dict[str, Any]], verdict: Mapping[str, Any]
) -> dict[str, Any]:
    plan = plan_json(migration)
    return {
        "schema": SCHEMA,
        "kind": MIGRATION,
        "convkit": convkit.__version__,
        "plan": plan,
        "plan_digest": digest_value("sha256", plan),
        "source": {"path": str(migration.source.path), "format": plan["source"]["format"]},
        "target": {"path": target.name, "format": plan["target"]["format"]},
        "parts": parts,
        "restored": dict(verdict),
        "versions": {"python": platform.python_version(), **_versions()},
        "bytes_read": plan["summary"]["bytes_read"],
        "bytes_written": sum(file["bytes"] for part in parts for file in part["files"].values()),
        "warnings": migration.notes,
    }


def _versions() -> dict[str, str]:
    """Those packages that have a part in it, where they are installed."""
    found = {}
    for name in ("orbax-checkpoint", "tensorstore"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
