"""From arguments to an opened source and its plan, for the commands that need one."""

from __future__ import annotations

import argparse
from collections.abc import Iterable

from convkit.errors import UsageError
from convkit.mapping.layout import parse_release
from convkit.plan import Options, Plan, Source, make_plan, open_source


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
        given={name: _number(name, text) for name, text in _pairs("--size", args.size)},
        choices=dict(_pairs("--variant", args.variant)),
    )
    return make_plan(source, args.to, args.from_, options)


def _pairs(flag: str, texts: Iterable[str]) -> list[tuple[str, str]]:
    pairs = [text.partition("=") for text in texts]
    for name, sign, value in pairs:
        if not (name and sign):
            raise UsageError(f"{flag} {name}{sign}{value}", remedy="write NAME=VALUE")
    return [(name, value) for name, _, value in pairs]


def _number(name: str, text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"--size {name}={text}", remedy="a size is a number above 0")
    return int(text)
