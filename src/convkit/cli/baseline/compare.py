"""``convkit baseline compare``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from convkit.baseline.comparing import TOLERANCE, compared, gone
from convkit.baseline.document import Baseline
from convkit.baseline.drift import Comparison, RowDrift
from convkit.cli.baseline.leaves import by_ulps
from convkit.cli.baseline.rows import Row, rows_of, rows_options, store_of
from convkit.cli.baseline.shown import show
from convkit.cli.options import no_fail_option
from convkit.cli.output import emit
from convkit.errors import UsageError


def options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    rows_options(parser)
    parser.add_argument(
        "--with",
        metavar="OTHER",
        dest="other",
        type=Path,
        help="compare with the results of another run, as they are, instead of baselines",
    )
    parser.add_argument(
        "--before",
        metavar="OTHER",
        type=Path,
        help="results that still hold the outputs which were accepted: leaves that changed are compared in ulp",
    )
    tolerance_option(parser)
    no_fail_option(parser)


def tolerance_option(parser: argparse.ArgumentParser) -> None:
    """Add the option for how far figures may move."""
    parser.add_argument(
        "--tolerance",
        metavar="PART",
        type=_part,
        default=TOLERANCE,
        help=f"how far a measured error may move, as a part of its bound (default: {TOLERANCE})",
    )


def _part(text: str) -> float:
    try:
        part = float(text)
    except ValueError:
        part = -1.0
    if not 0 <= part <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} isn't a number from 0 to 1")
    return part


def run(args: argparse.Namespace) -> int:
    """Compare; the exit code is the answer."""
    found = comparison(args)
    if args.json:
        emit(found.to_json())
    else:
        show(found)
    return 0 if found.passed or args.no_fail else 1


def comparison(args: argparse.Namespace) -> Comparison:
    """The campaign against its baselines, or against another run."""
    if args.other is not None:
        if args.public_key:
            raise UsageError("--public-key is for baselines", remedy="leave out --with, or the key")
        return between(rows_of(args.results, args.ids), args.results, args.other, args.tolerance)
    outputs = {row.seen.id: row for row in rows_of(args.before)} if args.before else {}
    rows = rows_of(args.results, args.ids)
    store = store_of(args)
    known = {id: made for id in args.ids or store.ids() if (made := store.read(id)) is not None}
    found = [_row(row, known.get(row.seen.id), outputs, args.tolerance) for row in rows]
    seen = {row.seen.id for row in rows}
    found += [gone(id) for id in known if id not in seen]
    return _comparison(args.results, args.baselines, args.tolerance, found)


def between(rows: Sequence[Row], results: Path, other: Path, tolerance: float) -> Comparison:
    """These rows of a campaign against those of another run, whose outputs are still there."""
    outputs = {row.seen.id: row for row in rows_of(other)}
    found = []
    for row in rows:
        old = outputs.get(row.seen.id)
        made = old.seen.baseline() if old else None
        if old is not None and made is None and row.seen.verdict == old.seen.verdict:
            found.append(RowDrift(id=row.seen.id, standing="same"))  # it stops in both
        else:
            found.append(_row(row, made, outputs, tolerance))
    return _comparison(results, other, tolerance, found)


def _comparison(results: Path, other: Path, tolerance: float, rows: Sequence[RowDrift]) -> Comparison:
    return Comparison(
        results=str(results),
        baselines=str(other),
        passed=all(one.standing == "same" for one in rows),
        tolerance=tolerance,
        rows=tuple(rows),
    )


def _row(row: Row, baseline: Baseline | None, outputs: dict[str, Row], tolerance: float) -> RowDrift:
    found = compared(baseline, row.seen, tolerance)
    old = outputs.get(row.seen.id)
    if baseline is None or not any(one.kind == "leaf changed" for one in found.drifts):
        return found
    return by_ulps(found, row.target, old.target if old else None)
