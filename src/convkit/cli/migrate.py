"""``convkit orbax migrate``, and ``convkit convert`` from Orbax to Orbax."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import Any

from convkit.checkpoint.digests import ALGORITHMS
from convkit.checkpoint.source_files import Ranged
from convkit.cli.kinds import MIGRATIONS
from convkit.cli.output import emit, note, parse_size, progress, say, table
from convkit.errors import UsageError
from convkit.files.receipt import receipt_path
from convkit.migrate.orbax.migrate import migrate
from convkit.migrate.orbax.plan_json import plan_document
from convkit.migrate.orbax.request import Encoding, Request, plan_migration
from convkit.report.text import size

_ON = {"on": True, "off": False, None: None}


def options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument(
        "source", metavar="SRC", type=Path, help="a root, a step, a checkpoint without items, or an item"
    )
    parser.add_argument("target", metavar="DST", type=Path, help="the folder to write; its receipt comes beside it")
    parser.add_argument("--to", choices=("v0", "v1"), help="the API that must load DST")
    parser.add_argument("--dual", action="store_true", help="write a checkpoint that both APIs load")
    parser.add_argument(
        "--mode",
        choices=("metadata", "rewrite"),
        help="keep the data and write new metadata, or rewrite all arrays (default: rewrite only if necessary)",
    )
    parser.add_argument(
        "--drop", metavar="NAME", action="append", default=[], help="leave out a leaf or an item by name or glob"
    )
    parser.add_argument("--step", metavar="N", type=int, action="append", default=[], help="of a root; default: all")
    parser.add_argument("--zarr", type=int, choices=(2, 3), help="rewrite arrays, in this version of zarr")
    parser.add_argument("--ocdbt", choices=("on", "off"), help="rewrite arrays, in a database or in folders")
    parser.add_argument("--compressor", metavar="C", help="rewrite arrays: none, zstd, gzip, also zstd:3")
    parser.add_argument("--chunk-size", metavar="SIZE", help="rewrite arrays, in chunks of at most this size: 16MiB")
    parser.add_argument("--copy", action="store_true", help="copy data files; default: hard links where possible")
    parser.add_argument(
        "--afresh", action="store_true", help="don't restore what the receipt of an earlier migration keeps"
    )
    parser.add_argument(
        "--no-restore", dest="restore", action="store_false", help="don't restore the result with the real Orbax"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier migration once this is complete")
    parser.add_argument("--dry-run", action="store_true", help="show what would be done, and write nothing")
    parser.add_argument("--threads", metavar="N", type=int, help="default: one per core")
    parser.add_argument("--digest", choices=ALGORITHMS, default=ALGORITHMS[0], help="for files, in the receipt")


def run(args: argparse.Namespace) -> int:
    """Migrate, and print a summary."""
    if args.to is None and not args.dual:
        raise UsageError("--to is missing", remedy="say --to v1 or --to v0, or --dual for both")
    encoding = Encoding(args.zarr, _ON[args.ocdbt], args.compressor, parse_size(args.chunk_size))
    request = Request(
        to=args.to or "v1",
        mode=args.mode,
        steps=tuple(args.step),
        dual=args.dual,
        drop=tuple(args.drop),
        copy=args.copy,
        afresh=args.afresh,
        encoding=encoding,
    )
    if args.dry_run:
        show_plan(args, plan_document(plan_migration(args.source, request)).to_json())
        return 0
    show(args, migrated(args, request, restored=args.restore))
    return 0


def asked_for(args: argparse.Namespace) -> Request:
    """The migration that ``convkit convert`` or ``plan`` requests, by an Orbax format without a layout.

    Raises:
        UsageError: neither is requested, or an option that only a conversion has.
    """
    if args.format not in MIGRATIONS:
        raise UsageError(
            "--to is missing", remedy=f"name a layout, or migrate Orbax with --format {' or '.join(MIGRATIONS)}"
        )
    for name in (
        "from_",
        "through",
        "release",
        "dtype",
        "headless",
        "allow_missing",
        "seed",
        "size",
        "variant",
        "config",
        "source_format",
    ):
        if getattr(args, name) not in (None, [], "") and getattr(args, name) is not False:
            raise UsageError(
                f"--{name.strip('_').replace('_', '-')} without --to", remedy="name a layout, or leave it out"
            )
    return Request(to=args.format.removeprefix("orbax-"), drop=tuple(args.drop), afresh=not args.restore)


def convert(args: argparse.Namespace) -> int:
    """Migrate for ``convkit convert``, and print a summary."""
    request = asked_for(args)
    if args.part or args.finish:
        raise UsageError("a migration isn't made in parts", remedy="leave --part and --finish out")
    if isinstance(args.target, Ranged):
        raise UsageError(
            "a migration isn't written to a store",
            path=f"{args.target}",
            remedy="write to a folder, and copy it there",
        )
    show(args, migrated(args, request))
    return 0


def plan(args: argparse.Namespace) -> int:
    """Show the plan of a migration for ``convkit plan``."""
    show_plan(args, plan_document(plan_migration(args.source, asked_for(args))).to_json())
    return 0


def migrated(args: argparse.Namespace, request: Request, *, restored: bool = True) -> dict[str, Any]:
    """Migrate, and return the receipt."""
    with progress(f"{args.source} -> {args.target}") as advance:
        return migrate(
            args.source,
            args.target,
            request,
            restored=restored,
            overwrite=args.overwrite,
            algorithm=args.digest,
            threads=args.threads,
            progress=advance,
            watch=args.watch,
        )


def show_plan(args: argparse.Namespace, document: dict[str, Any]) -> None:
    """Print what a migration would do."""
    if args.json:
        emit(document)
        return
    warn(document)
    reasons = Counter(leaf["reason"] or "data unchanged" for leaf in document["source_leaves"].values())
    summary = document["summary"]
    table(
        [
            ("formats", f"{document['source']['format']} -> {document['target']['format']}"),
            ("leaves", f"{summary['source_leaves']}, {size(summary['bytes_read'])}"),
            *((f"{number} x", reason) for reason, number in reasons.items()),
        ]
    )


def show(args: argparse.Namespace, receipt: dict[str, Any]) -> None:
    """Print what a migration to ``args.target`` did."""
    if args.json:
        emit(receipt)
        return
    warn(receipt)
    restored = receipt["restored"]
    proof = (
        f"not restored by Orbax ({restored['skipped']})"
        if "skipped" in restored
        else f"Orbax restores {restored['measured']['leaves']} leaves and nodes, equal bit by bit"
    )
    parts = [part for part in receipt["parts"] if part["items"]]
    anew = sum(bool(item["rewritten"]) for part in parts for item in part["items"].values())
    items = sum(len(part["items"]) for part in parts)
    say(
        f"{args.target}: {receipt['target']['format']}, {len(parts)} checkpoints, {items} items"
        f"{f' ({anew} rewritten)' if anew else ''}, {size(receipt['bytes_written'])} in {receipt['seconds']:.1f} s; "
        f"{proof}; receipt {receipt_path(args.target).name}"
    )


def warn(document: dict[str, Any]) -> None:
    """Print the warnings to standard error."""
    for warning in document["warnings"]:
        note(f"warning: {warning}")
