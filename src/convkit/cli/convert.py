"""``convkit convert``."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from convkit.checkpoint import WriteOptions
from convkit.checkpoint.digests import ALGORITHMS
from convkit.checkpoint.source_files import Ranged
from convkit.cli.options import parts_options
from convkit.cli.output import emit, few_of, note, parse_size, progress, say
from convkit.cli.planning import conversion_options, opened, planned
from convkit.cli.stage import stage
from convkit.errors import UsageError
from convkit.execute import convert
from convkit.files.receipt import receipt_path
from convkit.files.stores import place, target_place
from convkit.plan import Plan, Source
from convkit.plan.memory import check_memory
from convkit.report.text import deviation, size

#: fields that a line names; the plan lists them all
_SHOWN = 8


def options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("source", metavar="SRC", type=place, help="the checkpoint: a file or a folder")
    parser.add_argument(
        "target", metavar="DST", type=target_place, help="the file or folder to write, also in s3:// or gs://"
    )
    conversion_options(parser)
    parser.add_argument("--threads", metavar="N", type=int, help="default: one per core")
    parser.add_argument(
        "--memory", metavar="SIZE", type=parse_size, help="refuse what would take more memory, before writing: 4GiB"
    )
    writing_options(parser)
    parts_options(parser, "check what all parts have made, and give DST its name")


def writing_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of how an output is written."""
    parser.add_argument("--shard-size", metavar="SIZE", help="bytes per shard at most: 5GB, 500MB, 2GiB")
    parser.add_argument("--digest", choices=ALGORITHMS, default=ALGORITHMS[0], help="for leaves, in the receipt")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing DST once the new one is complete")


def run(args: argparse.Namespace) -> int:
    """Convert, or make a part, and print a summary."""
    if args.threads is not None and args.threads < 1:
        raise UsageError(f"--threads {args.threads}", remedy="at least 1")
    if (args.part or args.finish) and isinstance(args.target, Ranged):
        raise UsageError(
            "an output in a store isn't made in parts", path=f"{args.target}", remedy="write to a shared folder"
        )
    if args.to is None:
        from convkit.cli import migrate

        return migrate.convert(args)
    with stage("reading"):
        source = opened(args)
    with source:
        with stage("planning"):
            plan = planned(args, source)
        with stage("converting"):
            if args.part:
                return made(args, source, plan)
            receipt = finished(args, source, plan) if args.finish else converted(args, source, plan)
    print_summary(args, receipt, source.config_path)
    return 0


def made(args: argparse.Namespace, source: Source, plan: Plan) -> int:
    """Make a part, and print what it is."""
    from convkit.execute.in_parts import make_part

    document = converted(args, source, plan, work=make_part, part=args.part)
    if args.json:
        emit(document)
        return 0
    for warning in document["warnings"]:
        note(f"warning: {warning}")
    if not args.part.number:
        say(f"{args.target}: begun, to be made in {args.part.count} parts")
        return 0
    part, resumed = document["made"], ", resumed" if document["made"]["resumed"] else ""
    say(
        f"{args.target}: part {args.part}: {size(part['bytes_made'])} made, {size(part['bytes_digested'])} digested "
        f"in {part['seconds']:.1f} s{resumed}; the last step is --finish"
    )
    return 0


def finished(args: argparse.Namespace, source: Source, plan: Plan) -> dict[str, Any]:
    """Join all parts, and return the receipt."""
    from convkit.execute.in_parts import finish

    return converted(args, source, plan, work=finish)


def converted(
    args: argparse.Namespace,
    source: Source,
    plan: Plan,
    options: WriteOptions | None = None,
    *,
    work: Callable[..., dict[str, Any]] = convert,
    **more: Any,
) -> dict[str, Any]:
    """Carry out a plan, and return the receipt.

    Args:
        args: say where to, and how.
        source: the opened source.
        plan: of its conversion.
        options: of the output's format; None makes them of the arguments.
        work: what carries it out: :func:`convkit.execute.convert`, or what makes or finishes its parts.
        more: what that may be told beside.
    """
    if limit := getattr(args, "memory", None):
        check_memory(plan, plan.wrapping.off(source.checkpoint), limit, args.threads)
    with progress(f"{args.source} -> {args.target}") as advance:
        return work(
            source,
            plan,
            args.target,
            threads=args.threads,
            options=options or WriteOptions(shard_size=parse_size(args.shard_size)),
            digest=args.digest,
            overwrite=args.overwrite,
            progress=advance,
            **more,
        )


def print_summary(args: argparse.Namespace, receipt: dict[str, Any], config: Path | None) -> None:
    """Print a summary of a conversion to ``args.target`` by a config of the source."""
    print_notes(receipt)
    if args.json:
        emit(receipt)
    else:
        plan = receipt["plan"]
        rate = receipt["bytes_written"] / max(receipt["seconds"], 1e-3)
        resumed = ", resumed" if receipt["resumed"] else ""
        by = f"config {config.name}; " if config else ""
        say(
            f"{args.target}: {plan['target']['layout']}, {len(plan['target_leaves'])} leaves, "
            f"{size(receipt['bytes_written'])} in {receipt['seconds']:.1f} s ({size(rate)}/s)"
            f"{resumed}; {by}receipt {receipt_path(args.target).name}"
        )


def print_notes(receipt: dict[str, Any]) -> None:
    """Print what a conversion has to say beside its result to standard error."""
    for declared in receipt["plan"].get("deviations", []):
        note(f"deviation: {deviation(declared)}")
    if unknown := receipt["plan"].get("unknown", []):
        note(f"not fields of the source's config class, kept as complement: {few_of(unknown, _SHOWN)}")
    for warning in receipt["warnings"]:
        note(f"warning: {warning}")
