"""The command line's parsers: each command's own options, help with colours, and what was meant by a wrong word."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NoReturn

from convkit.errors import UsageError, meant


class Parser(argparse.ArgumentParser):
    """A parser that raises a :class:`UsageError` for wrong arguments.

    Args:
        load: adds the options of a command, when it is called or its help is asked for; its module is imported and its
            parser made then.
        example: one use of the command, for its help.
    """

    def __init__(
        self, *args: Any, load: Callable[[Parser], None] | None = None, example: str = "", **more: Any
    ) -> None:
        self._load = load
        self._command = load is not None
        self._meant = ""
        if example:
            more["epilog"] = f"example:\n  convkit {example}"
        self._make = partial(super().__init__, *args, **more)
        if load is None:
            self._make()

    def loaded(self) -> Parser:
        """This parser with the options of its command."""
        if self._load is not None:
            load, self._load = self._load, None
            self._make()
            load(self)
        return self

    @property
    def flags(self) -> list[str]:
        """The options that the parser knows by now, as they are typed."""
        return [flag for action in self._actions for flag in action.option_strings]

    def error(self, message: str) -> NoReturn:
        """See :meth:`argparse.ArgumentParser.error`."""
        raise UsageError(message, remedy=f"{self._meant}see {self.prog} --help")

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """See :meth:`argparse.ArgumentParser.parse_known_args`; a command refuses arguments that it doesn't know."""
        self._meant = ""
        found, rest = super(Parser, self.loaded()).parse_known_args(args, namespace)
        if self._command and rest:
            wrong = next((word for word in rest if word.startswith("-")), "")
            self._meant = meant(wrong.partition("=")[0], self._option_string_actions)
            self.error(f"unrecognized arguments: {' '.join(rest)}")
        return found, rest

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            self._meant = meant(str(value), map(str, action.choices))
        super()._check_value(action, value)

    def format_help(self) -> str:
        """See :meth:`argparse.ArgumentParser.format_help`; with colours on a terminal."""
        if sys.stdout.isatty():
            from rich_argparse import RawDescriptionRichHelpFormatter as Formatter
        else:
            from argparse import RawDescriptionHelpFormatter as Formatter  # type: ignore[assignment]
        self.formatter_class = Formatter
        return super().format_help()


def every(parser: argparse.ArgumentParser, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Parser]]:
    """Every command's parser with its options, by the words that call it; groups and the whole line included."""
    assert isinstance(parser, Parser)
    yield words, parser.loaded()
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, one in action.choices.items():
                yield from every(one, (*words, name))
