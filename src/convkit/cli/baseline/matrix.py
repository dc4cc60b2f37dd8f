"""``convkit baseline matrix``: what one runs before an upgrade."""

from __future__ import annotations

import argparse
from pathlib import Path

from convkit.baseline.drift import Comparison, Matrix, RowDrift
from convkit.cli.baseline.compare import between, tolerance_option
from convkit.cli.baseline.rows import rows_of
from convkit.cli.baseline.shown import show
from convkit.cli.options import no_fail_option
from convkit.cli.output import emit, say, table


def options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("results", metavar="RESULTS", type=Path, help="the results of a campaign")
    parser.add_argument(
        "columns",
        metavar="NAME=RESULTS",
        nargs="+",
        type=_column,
        help="the results of the same table under other versions, and what to call them",
    )
    tolerance_option(parser)
    no_fail_option(parser)


def _column(text: str) -> tuple[str, Path]:
    name, equals, place = text.partition("=")
    if not (name and equals and place):
        raise argparse.ArgumentTypeError(f"{text!r} isn't a name, =, and a folder")
    return name, Path(place)


def run(args: argparse.Namespace) -> int:
    """Compare each column with the campaign; the exit code is the answer."""
    columns = {name: between(rows_of(place), place, args.results, args.tolerance) for name, place in args.columns}
    found = Matrix(results=str(args.results), passed=all(one.passed for one in columns.values()), columns=columns)
    if args.json:
        emit(found.to_json())
    else:
        _show(columns)
    return 0 if found.passed or args.no_fail else 1


def _show(columns: dict[str, Comparison]) -> None:
    """What moved in each column, then a table of rows by columns."""
    for name, found in columns.items():
        say(f"column {name}:")
        show(found)
    ids = dict.fromkeys(row.id for found in columns.values() for row in found.rows)
    standings = {name: {row.id: row for row in found.rows} for name, found in columns.items()}
    table([("checkpoint", *columns), *((id, *(_cell(rows.get(id)) for rows in standings.values())) for id in ids)])


def _cell(row: RowDrift | None) -> str:
    if row is None:
        return "not there"
    return row.standing if row.standing != "drifted" else ", ".join(dict.fromkeys(one.kind for one in row.drifts))
