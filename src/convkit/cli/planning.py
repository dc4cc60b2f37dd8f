"""From arguments to an opened source and its plan, for the commands that need one."""

from __future__ import annotations

import argparse

from convkit.plan import Options, Plan, make_plan
from convkit.source import Source, open_source, parse_release


def opened(args: argparse.Namespace) -> Source:
    """The source that the arguments name."""
    return open_source(args.source, format=args.source_format, config=args.config)


def planned(args: argparse.Namespace, source: Source) -> Plan:
    """The plan that the arguments ask for."""
    options = Options(
        format=args.format,
        release=parse_release(args.release),
        drop=tuple(args.drop),
        dtype=args.dtype,
        headless=args.headless,
        restore=args.restore,
    )
    return make_plan(source, args.to, args.from_, options)
