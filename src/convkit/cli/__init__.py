"""The ``convkit`` command: words in, one call of the package, words or one JSON document out.

Exit code 0 success, 1 a check says no, 2 wrong usage, 3 the input can't be read, isn't supported, or
the plan isn't total. Each command's module is imported when it is called.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from convkit import __version__
from convkit.cli.options import COMMANDS, add_options
from convkit.errors import ConvkitError, UsageError


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    try:
        args = parser().parse_args(argv)
    except UsageError as error:
        return _say(error, json_too="--json" in (sys.argv[1:] if argv is None else argv))
    for name, value in vars(args).items():
        if isinstance(value, Path) and value.name in ("", ".."):
            setattr(args, name, value.resolve())  # receipts and configs are found by the name
    try:
        return import_module(f"convkit.cli.{COMMANDS[args.command][0]}").run(args)
    except ConvkitError as error:
        return _say(error, json_too=args.json)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        told = ConvkitError(error.strerror or str(error), path=error.filename, remedy="check the path and permissions")
        return _say(told, json_too=args.json)
    except KeyboardInterrupt:
        print("convkit: interrupted; the same command resumes", file=sys.stderr)
        return 130


class _Parser(argparse.ArgumentParser):
    """Wrong words are a :class:`UsageError` like any other."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, remedy=f"see {self.prog} --help")


def parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    top = _Parser(
        prog="convkit",
        description="Converts model checkpoints between frameworks and proves that each conversion is right.",
        epilog="Exit code: 0 success, 1 a check says no, 2 wrong usage, 3 unreadable, unsupported or not total.",
    )
    top.add_argument("--version", action="version", version=f"convkit {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (_, summary) in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
        add_options(name, command)
        command.add_argument("--json", action="store_true", help="print one JSON document")
    return top


def _say(error: ConvkitError, *, json_too: bool) -> int:
    print(f"convkit: {error}", file=sys.stderr)
    if json_too:
        document: dict[str, Any] = {
            "schema": "convkit.error/1",
            "error": str(error),
            "path": error.path,
            "key": error.key,
            "problem": error.problem,
            "remedy": error.remedy,
            "exit_code": error.exit_code,
        }
        print(json.dumps(document, indent=1))
    return error.exit_code
