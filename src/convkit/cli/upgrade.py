"""``convkit upgrade``: a checkpoint, its training state and its config, from one release of a framework to another."""

from __future__ import annotations

import argparse

from convkit.cli import convert
from convkit.cli.planning import opened
from convkit.cli.stage import stage
from convkit.errors import UsageError
from convkit.mapping import split_name
from convkit.mappings import get_layout, releases_of
from convkit.plan.detect import detect_layout


def options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options: those of ``convkit convert``."""
    convert.options(parser)


def run(args: argparse.Namespace) -> int:
    """Convert a checkpoint to its own layout, as the release has it."""
    if args.to is not None or args.through:
        raise UsageError("--to with upgrade", remedy="convkit convert converts to another layout")
    with stage("reading"), opened(args) as source:
        layout = detect_layout(source, split_name(args.from_)[0] if args.from_ else None)[0]
    if not (known := releases_of(get_layout(layout.name))):
        raise UsageError(
            f"is {layout.name}, which is the same in every release", path=args.source, remedy="convkit convert"
        )
    args.to = layout.name
    args.release = args.release or ".".join(map(str, known[-1]))
    return convert.run(args)
