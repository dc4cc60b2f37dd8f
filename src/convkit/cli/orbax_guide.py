"""``convkit orbax guide``: list the replacements for the methods of v0's CheckpointManager."""

from __future__ import annotations

import argparse
import textwrap

from convkit.cli.output import emit, say
from convkit.orbax.guide import guide

SCHEMA = "convkit.orbax-guide/1"
_METHOD, _WIDTH = 24, 100


def options(parser: argparse.ArgumentParser) -> None:
    """The command takes no options."""


def run(args: argparse.Namespace) -> int:
    """Print the table; exit 1 if the installed release has methods that the table doesn't know."""
    found = guide()
    if args.json:
        emit({"schema": SCHEMA, **found})
        return 1 if found["unknown"] else 0
    say(f"orbax-checkpoint {found['release']}: CheckpointManager (v0) -> training.Checkpointer (v1)", "")
    for row in found["rows"]:
        names = [name if state == "there" else f"{name} ({state})" for name, state in row["counterparts"].items()]
        _line(row["method"] if row["installed"] else f"{row['method']} (gone)", ", ".join(names) or "no counterpart")
        if row["note"]:
            _line("", row["note"])
        if row["guide_outdated"]:
            _line("", f"the official guide is out of date: it says {', '.join(row['guide_outdated'])}")
    for method in found["unknown"]:
        _line(method, "new in this release: not in this table")
    say("")
    _line("only in v1", ", ".join(found["only_v1"]) or "nothing")
    return 1 if found["unknown"] else 0


def _line(method: str, text: str) -> None:
    say(*textwrap.wrap(text, _WIDTH, initial_indent=method.ljust(_METHOD), subsequent_indent=" " * _METHOD))
