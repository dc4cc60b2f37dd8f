"""``convkit convert``."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from convkit.checkpoint import WriteOptions
from convkit.cli import migrate
from convkit.cli.output import emit, parse_size, progress, size
from convkit.cli.planning import opened, planned
from convkit.errors import UsageError
from convkit.execute import convert
from convkit.files.receipt import receipt_path


def run(args: argparse.Namespace) -> int:
    """Convert, and say what came of it."""
    if args.threads is not None and args.threads < 1:
        raise UsageError(f"--threads {args.threads}", remedy="one at least")
    if (request := migrate.asked_for(args)) is not None:
        return migrate.convert(args, request)
    with opened(args) as source, progress(f"{args.source} -> {args.target}") as advance:
        receipt = convert(
            source,
            planned(args, source),
            args.target,
            threads=args.threads,
            options=WriteOptions(shard_size=parse_size(args.shard_size)),
            digest=args.digest,
            overwrite=args.overwrite,
            progress=advance,
        )
    tell(args, receipt)
    return 0


def tell(args: argparse.Namespace, receipt: dict[str, Any]) -> None:
    """Say what came of a conversion to ``args.target``."""
    for warning in receipt["warnings"]:
        print(f"convkit: warning: {warning}", file=sys.stderr)
    if args.json:
        emit(receipt)
    else:
        plan = receipt["plan"]
        rate = receipt["bytes_written"] / max(receipt["seconds"], 1e-3)
        print(
            f"{args.target}: {plan['target']['layout']}, {len(plan['target_leaves'])} leaves, "
            f"{size(receipt['bytes_written'])} in {receipt['seconds']:.1f} s ({size(rate)}/s)"
            f"{', resumed' if receipt['resumed'] else ''}; receipt {receipt_path(args.target).name}"
        )
