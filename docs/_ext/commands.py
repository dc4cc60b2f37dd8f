"""The reference of the command line, from its parsers."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from functools import cache

from markdown import block, code, codes, plain, table

from convkit.cli import parser
from convkit.cli.parsing import Parser, every

#: the commands that pages describe
_described: set[str] = set()


@cache
def _parsers() -> dict[str, Parser]:
    """Every command's parser, by the words that call it."""
    return {" ".join(words): one for words, one in every(parser()) if words and not _choices(one)}


def _choices(one: argparse.ArgumentParser) -> list[str]:
    groups = (action for action in one._actions if isinstance(action, argparse._SubParsersAction))
    return [name for group in groups for name in group.choices]


def missing() -> list[str]:
    """The commands that no page describes."""
    return [f"convkit {name}" for name in _parsers() if name not in _described]


def listed() -> str:
    """A table of all commands, with what each does."""
    rows = ([f"[`convkit {name}`](#{_anchor(name)})", _summary(one)] for name, one in _parsers().items())
    return table(["command", "what it does"], rows)


def _anchor(name: str) -> str:
    return f"convkit-{name.replace(' ', '-')}"


def _summary(one: Parser) -> str:
    return plain((one.description or "").rstrip("."))


def described(*names: str) -> str:
    """The sections of these commands: the first word of a group stands for all of its commands."""
    found = {name: one for name, one in _parsers().items() if name in names or name.split()[0] in names}
    _described.update(found)
    return "\n".join(map(_section, found, found.values()))


def _section(name: str, one: Parser) -> str:
    return "\n".join(
        (
            f"({_anchor(name)})=",
            f"### convkit {name}\n",
            f"{plain(one.description or '')}\n",
            block(one.format_usage().removeprefix("usage: ")),
            _arguments(one),
            *([block((one.epilog or "").removeprefix("example:\n").strip())] if one.epilog else []),
        )
    )


def _arguments(one: Parser) -> str:
    rows = [_row(action) for action in _ordered(one) if action.help != argparse.SUPPRESS]
    return table(["argument", "meaning"], rows) if rows else ""


def _ordered(one: Parser) -> Iterator[argparse.Action]:
    """What a command takes, except the help: first what has a place, then the options."""
    actions = [action for action in one._actions if not isinstance(action, argparse._HelpAction)]
    yield from sorted(actions, key=lambda action: bool(action.option_strings))


def _row(action: argparse.Action) -> tuple[str, str]:
    """An argument as it is typed, and what it means."""
    value = argparse.HelpFormatter("")._format_args(action, _metavar(action)) if action.nargs != 0 else ""
    typed = codes(f"{flag} {value}".strip() for flag in action.option_strings) or code(value)
    meaning = (action.help or "") % {**vars(action), "prog": "convkit"} if action.help else ""
    choices = f" (one of {codes(action.choices)})" if action.choices else ""
    return typed, plain(meaning) + choices + (" (required)" if action.option_strings and action.required else "")


def _metavar(action: argparse.Action) -> str:
    if isinstance(action.metavar, str):
        return action.metavar
    return action.dest.upper()
