"""The rows of a campaign as baselines see them, and the folder of baselines, as the command line names them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from convkit.audit.keys import read_public
from convkit.baseline.observed import Observed
from convkit.baseline.store import Store
from convkit.cli.audit.keys import public_key_option
from convkit.cli.report import altered
from convkit.errors import UsageError, meant
from convkit.report.campaign import read_campaign
from convkit.report.summary import observed

#: where baselines lie if nothing else is said
FOLDER = Path("baselines")


@dataclass(frozen=True)
class Row:
    """A row, and where its output lies if it is there."""

    seen: Observed
    target: Path | None


def rows_options(parser: argparse.ArgumentParser) -> None:
    """Add what names the campaign, its rows and their baselines."""
    parser.add_argument("results", metavar="RESULTS", type=Path, help="the results of a campaign")
    parser.add_argument("ids", metavar="ID", nargs="*", help="only these rows (default: all)")
    parser.add_argument(
        "--baselines", metavar="DIR", type=Path, default=FOLDER, help=f"where baselines lie (default: {FOLDER})"
    )
    public_key_option(parser, "refuse baselines that this key hasn't signed; of several keys, one must have")


def store_of(args: argparse.Namespace) -> Store:
    """The folder of baselines."""
    return Store(args.baselines, [read_public(path) for path in args.public_key])


def rows_of(results: Path, ids: Sequence[str] = ()) -> list[Row]:
    """Rows of a campaign, in the order of its table.

    Raises:
        UsageError: an id is that of no row.
        ConvkitError: the folder holds nothing to report on.
    """
    found = {one.id: Row(observed(one), one.target) for one in read_campaign(results, altered)}
    for id in ids:
        if id not in found:
            raise UsageError(f"no row {id!r} in {results}", remedy=f"{meant(id, found)}rows: {', '.join(found)}")
    return [row for id, row in found.items() if not ids or id in ids]
