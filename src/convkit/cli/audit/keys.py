"""Options that name keys, which several commands have."""

from __future__ import annotations

import argparse
from pathlib import Path

from convkit.audit.keys import PASSPHRASE


def passphrase_option(parser: argparse.ArgumentParser) -> None:
    """Add the option that says where the passphrase of a key is."""
    parser.add_argument(
        "--passphrase-file",
        metavar="FILE",
        type=Path,
        help=f"the passphrase of the key is the first line of FILE (default: {PASSPHRASE} in the environment)",
    )


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
