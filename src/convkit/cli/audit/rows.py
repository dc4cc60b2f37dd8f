"""What is meant by TARGET or RESULTS: one output, or the rows of a campaign."""

from __future__ import annotations

import argparse
from pathlib import Path

from convkit.audit.campaign import Row
from convkit.audit.evidence import bundle_path
from convkit.errors import ConvkitError
from convkit.files.receipt import receipts_beside


def place_option(parser: argparse.ArgumentParser) -> None:
    """Add the argument that names what is signed or checked."""
    parser.add_argument(
        "path", metavar="TARGET|RESULTS", type=Path, help="an output of convkit, or the results of a campaign"
    )


def is_target(path: Path) -> bool:
    """Whether a path names one output.

    Raises:
        ConvkitError: nothing is there.
    """
    if receipts_beside(path) or bundle_path(path).is_file():
        return True
    if not path.exists():
        raise ConvkitError("no such file or folder", path=path, remedy="check the path")
    return path.is_file()


def rows_of(results: Path) -> list[Row]:
    """The rows of a campaign, in the order of its table.

    Raises:
        ConvkitError: there are none.
    """
    from convkit.cli.report import altered
    from convkit.report.campaign import read_campaign

    found = []
    for one in read_campaign(results, altered):
        folder = results / one.id
        found.append(Row(one.id, folder if folder.is_dir() else results, one.target, one.verdict))
    return found
