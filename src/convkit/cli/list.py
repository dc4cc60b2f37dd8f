"""``convkit list``."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable

from convkit import formats, generate, mappings, oracles
from convkit.cli.output import emit, note, table
from convkit.errors import ConvkitError
from convkit.plugins import KINDS, Plugin, installed

Rows = list[dict[str, object]]


def options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("what", choices=tuple(_LISTED), help="what to list; packages: what other packages bring")


def run(args: argparse.Namespace) -> int:
    """List what there is; of what another package brings and can't be used, a line says why."""
    rows, problems = _LISTED[args.what]
    found = rows()
    if args.json:
        emit(found)
    elif found:
        table([list(map(_cell, row.values())) for row in found])
    else:
        note("no other package brings anything")
    for problem in problems():
        note(str(problem))
    return 0


def _cell(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {choice}" for name, choice in value.items())
    return "" if value is None else str(value)


def _formats() -> Rows:
    return [
        {"name": name, "summary": format.summary, "package": _of(formats.OTHERS.plugin(name))}
        for name, format in formats.every()
    ]


def _layouts() -> Rows:
    own = mappings.own_layouts()
    theirs = {side.strip(): plugin for name, plugin in mappings.brought().items() for side in name.split("<->")}
    return [
        {
            "name": name,
            "summary": layout.summary,
            "format": layout.format,
            "conventions": dict(layout.conventions),
            "package": None if name in own else _of(theirs.get(name)),
        }
        for name, layout in sorted(mappings.layouts().items())
    ]


def _mappings() -> Rows:
    brought = mappings.brought()
    return [
        {
            "left": mapping.left.name,
            "right": mapping.right.name,
            "rules": len(mapping.rules),
            "package": _of(brought.get(mapping.name)),
        }
        for mapping in mappings.all_mappings()
    ]


def _oracles() -> Rows:
    return [{"layout": name, "package": _of(oracles.OTHERS.plugin(name))} for name in oracles.layouts()]


def _generated() -> Rows:
    return [{"family": name, "package": _of(generate.OTHERS.plugin(name))} for name in generate.names()]


def _packages() -> Rows:
    return [
        {"package": _of(plugin), "brings": plugin.what, "object": plugin.value, "group": plugin.group}
        for plugin in sorted((one for kind in KINDS for one in installed(kind)), key=str)
    ]


def _of(plugin: Plugin | None) -> str | None:
    """Who brings something; None for convkit itself."""
    return None if plugin is None else str(plugin)


def _every_problem() -> Iterable[ConvkitError]:
    return (problem for what in ("formats", "mappings", "oracles", "generated") for problem in _LISTED[what][1]())


#: what can be listed: its rows, and what is wrong with that which can't be used
_LISTED: dict[str, tuple[Callable[[], Rows], Callable[[], Iterable[ConvkitError]]]] = {
    "formats": (_formats, formats.OTHERS.problems),
    "layouts": (_layouts, mappings.problems),
    "mappings": (_mappings, mappings.problems),
    "oracles": (_oracles, oracles.OTHERS.problems),
    "generated": (_generated, generate.OTHERS.problems),
    "packages": (_packages, _every_problem),
}
