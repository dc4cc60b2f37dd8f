"""What a table of claims may name: layouts, mappings, releases, formats, generated models, and the options of commands.

The workflow checks a table by this document, ``workflow/known.json``, without importing convkit. ``make schemas``
writes it; printed anew, it also names what other packages bring: ``python -m convkit.cli.known``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import fields
from importlib import import_module
from typing import Any, get_args, get_type_hints

from convkit.checkpoint.tensors import ITEMSIZE, SPELLED, dtype_called
from convkit.cli import COMMANDS, Command, Group
from convkit.cli.kinds import KINDS, MIGRATIONS, REPAIRS
from convkit.cli.migrate import asked_for
from convkit.errors import UsageError
from convkit.fetch import schemes
from convkit.formats import every
from convkit.generate import FAMILIES, OTHERS, Generator
from convkit.mapping.layout import Layout
from convkit.mappings import ends, layouts, releases_of
from convkit.plan.make import castable

#: the layout of what a family generates, where it isn't called as the family is in transformers
_MADE = {"t5x": "t5x/t5", "clip-vit": "hf/clip_vision_model"}
#: commands whose options a row may give
_COMMANDS = ("plan", "convert", "equivalence")
_ACTIONS = {
    "_StoreAction": "store",
    "_AppendAction": "append",
    "_StoreTrueAction": "store_true",
    "_StoreFalseAction": "store_false",
}


def document() -> dict[str, Any]:
    """What is installed, by kind."""
    cerebras = COMMANDS["cerebras"]
    assert isinstance(cerebras, Group)
    commands = {name: COMMANDS[name] for name in _COMMANDS} | {name: cerebras.commands[name] for name in REPAIRS}
    options = {name: _options(command) for name, command in commands.items() if isinstance(command, Command)}
    return {
        "layouts": {name: _layout(layout) for name, layout in sorted(layouts().items())},
        "mappings": [list(joined) for joined in ends()],
        "formats": {name: {"folder": format.folder} for name, format in every()},
        "dtypes": _dtypes(),
        "repairs": list(REPAIRS),
        "migrations": list(MIGRATIONS),
        "checks": {kind: {check: list(given) for check, given in of.checks.items()} for kind, of in KINDS.items()},
        "schemes": schemes(),
        "generated": {name: _family(name, family) for name, family in (FAMILIES | dict(OTHERS.each())).items()},
        "options": options,
        "conversion_only": [option["flags"][-1] for option in options["plan"] if _refused_by_migrations(option)],
    }


def _layout(layout: Layout) -> dict[str, Any]:
    releases = [".".join(map(str, release)) for release in releases_of(layout)]
    told = {"format": layout.format, "releases": releases} | ({"by_name": True} if layout.by_name else {})
    alike = sorted(one.name for one in layouts().values() if one.by_name and _looks_like(one, layout))
    return told | ({"alike": alike} if alike else {})


def _looks_like(one: Layout, other: Layout) -> bool:
    """Whether nothing in a checkpoint shows which of both layouts it has."""
    return one.name != other.name and bool(one.signature) and one.signature == other.signature


def _family(name: str, family: type) -> dict[str, Any]:
    hints = get_type_hints(family)
    options = {field.name: list(get_args(kind := hints[field.name])) or kind.__name__ for field in fields(family)}
    named = family.layout if issubclass(family, Generator) else ""
    layout = named or (f"hf/{name}" if f"hf/{name}" in layouts() else _MADE.get(name))
    return {"layout": layout, "options": options}


def _parser(command: Command) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False)
    module = import_module(f"convkit.cli.{command.module}")
    getattr(module, command.options)(parser)
    return parser


def _options(command: Command) -> list[dict[str, Any]]:
    return [_option(action) for action in _parser(command)._actions if action.option_strings]


def _option(action: argparse.Action) -> dict[str, Any]:
    """An option: its flags, what it takes, and which values."""
    return {
        "flags": list(action.option_strings),
        "action": _ACTIONS[type(action).__name__],
        "takes": action.metavar,
        "choices": None if action.choices is None else [str(choice) for choice in action.choices],
        "required": action.required,
        "whole": action.type is int or action.metavar == "N",
        "least": _least(action.type) if action.metavar == "N" and callable(action.type) else None,
    }


def _least(number: Callable[[str], Any]) -> int | None:
    """The least whole number that an option takes; None if it takes any."""

    def taken(text: str) -> bool:
        try:
            number(text)
        except (argparse.ArgumentTypeError, UsageError, ValueError):
            return False
        return True

    return None if taken("-1") else next(least for least in range(99) if taken(str(least)))


def _dtypes() -> list[str]:
    """The dtypes to which tensors may be cast, as they may be written."""
    known = set(castable())
    return [text for text in (*ITEMSIZE, *SPELLED) if dtype_called(text) in known]


def _refused_by_migrations(option: dict[str, Any]) -> bool:
    """Whether a migration between the APIs of Orbax refuses an option of a conversion."""
    plan = COMMANDS["plan"]
    assert isinstance(plan, Command)
    flag = option["flags"][-1]
    if flag in ("--to", "--format"):
        return flag == "--to"
    value = {"N": "1", "NAME=N": "a=1", "DTYPE": "float32"}.get(option["takes"], "x=x")
    given = [flag] if option["action"].startswith("store_") else [flag, (option["choices"] or [value])[0]]
    try:
        asked_for(_parser(plan).parse_args(["SRC", "--format", MIGRATIONS[0], *given]))
    except UsageError:
        return True
    return False


def text() -> str:
    """The document as its file has it."""
    return json.dumps(document(), indent=1) + "\n"


if __name__ == "__main__":
    print(text(), end="")
