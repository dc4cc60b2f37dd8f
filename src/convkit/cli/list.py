"""``convkit list``."""

from __future__ import annotations

import argparse

from convkit.cli.output import emit, table
from convkit.formats import get_format, names
from convkit.mappings import all_mappings, layouts


def options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("what", choices=("formats", "layouts", "mappings"), help="what to list")


def run(args: argparse.Namespace) -> int:
    """List formats, layouts or mappings."""
    rows = {"formats": _formats, "layouts": _layouts, "mappings": _mappings}[args.what]()
    if args.json:
        emit(rows)
    else:
        table([list(map(_cell, row.values())) for row in rows])
    return 0


def _cell(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {choice}" for name, choice in value.items())
    return str(value)


def _formats() -> list[dict[str, object]]:
    return [{"name": name, "summary": get_format(name).summary} for name in names()]


def _layouts() -> list[dict[str, object]]:
    return [
        {"name": name, "summary": layout.summary, "format": layout.format, "conventions": dict(layout.conventions)}
        for name, layout in sorted(layouts().items())
    ]


def _mappings() -> list[dict[str, object]]:
    return [
        {"left": mapping.left.name, "right": mapping.right.name, "rules": len(mapping.rules)}
        for mapping in all_mappings()
    ]
