"""``convkit completion``: print a script that completes the words of the command line in a shell."""

from __future__ import annotations

import argparse
from pathlib import Path

from convkit.cli.output import script

#: the shells that shtab writes for, except PowerShell
SHELLS = ("bash", "zsh", "fish", "tcsh")
_FORMATS = ("format", "source_format")


def options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("shell", choices=SHELLS, help="the shell that is to complete them")


def run(args: argparse.Namespace) -> int:
    """Print the script."""
    import shtab

    from convkit.cli import parser
    from convkit.cli.cerebras.names import models
    from convkit.cli.parsing import every
    from convkit.formats import names
    from convkit.mappings import layouts

    whole = parser()
    known = {"to": layouts(), "from_": layouts(), "through": layouts(), **dict.fromkeys(_FORMATS, names())}
    known |= {"model": models()}
    for _, one in every(whole):
        for action in one._actions:
            if action.type is Path:
                action.complete = shtab.FILE  # type: ignore[attr-defined]
            elif action.choices is None and action.dest in known:
                action.choices = list(known[action.dest])
    script(shtab.complete(whole, args.shell))
    return 0
