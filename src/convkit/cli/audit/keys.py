"""Options that name keys, which several commands have."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NoReturn

from convkit.audit.keys import PASSPHRASE
from convkit.errors import UsageError


class _Refused(argparse.Action):
    """Refuses a passphrase on the command line, where every process sees it, and doesn't print it again."""

    def __call__(self, *_: object) -> NoReturn:
        remedy = f"write it to a file, and name that with --passphrase-file, or set {PASSPHRASE}; then choose another"
        raise UsageError("--passphrase: a passphrase on the command line can be read by others", remedy=remedy)


def passphrase_option(parser: argparse.ArgumentParser) -> None:
    """Add the option that says where the passphrase of a key is."""
    parser.add_argument(
        "--passphrase-file",
        metavar="FILE",
        type=Path,
        help=f"the passphrase of the key is the first line of FILE (default: {PASSPHRASE} in the environment)",
    )
    # otherwise argparse would take it for the option above, and the passphrase for the name of a file
    parser.add_argument("--passphrase", action=_Refused, help=argparse.SUPPRESS)


def public_key_option(parser: argparse.ArgumentParser, help: str, *, required: bool = False) -> None:
    """Add the option that names public keys, which may be repeated."""
    parser.add_argument(
        "--public-key",
        metavar="KEY.pub.pem",
        type=Path,
        action="append",
        default=[],
        required=required,
        help=help,
    )
