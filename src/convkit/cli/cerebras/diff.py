"""``convkit cerebras diff``: replaces the command of this name of ModelZoo's ``cszoo checkpoint``, with the same flags.

Source of the flags: ModelZoo release 2.10.0, ``cli/checkpoint_cli.py``; of the tolerance: ``torch.allclose``.
"""

from __future__ import annotations

import argparse

from convkit.cli import check
from convkit.cli.output import note

#: how far apart two elements may be, relative to the second, and beside that: by default, they must be equal
TOLERANCES = {"equal": None, "allclose": (1e-5, 1e-8)}


def options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    check.diff_options(parser)
    parser.add_argument(
        "--tensor_comparison_op",
        "--tensor-comparison-op",
        choices=tuple(TOLERANCES),
        default="equal",
        help="whether tensors must be equal bit by bit (default), or only close",
    )
    parser.add_argument("-p", "--profile", metavar="NAME", help="of the original's store: left out")


def run(args: argparse.Namespace) -> int:
    """Compare two checkpoints, and show the verdict."""
    if args.profile is not None:
        note("warning: --profile is for checkpoints in a store, which are fetched first: left out")
    return check.diff(args, TOLERANCES[args.tensor_comparison_op])
