"""``convkit orbax``: what concerns Orbax's two APIs alone."""

from __future__ import annotations

import argparse
from importlib import import_module

#: command -> its module
_MODULES = {
    "migrate": "convkit.cli.migrate",
    "check": "convkit.cli.orbax_check",
    "guide": "convkit.cli.orbax_guide",
}


def run(args: argparse.Namespace) -> int:
    """Run one of the commands."""
    return import_module(_MODULES[args.orbax_command]).run(args)
