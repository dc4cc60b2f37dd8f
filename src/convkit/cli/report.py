"""``convkit report``."""

from __future__ import annotations

import argparse
from pathlib import Path

from convkit.cli.options import no_fail_option
from convkit.cli.output import emit, note, progress, say
from convkit.errors import ConvkitError
from convkit.report import build_report
from convkit.report.by_hand import page_places, summary_beside
from convkit.report.campaign import read_campaign
from convkit.report.summary import Summary, format_table, read_summary, summarize


def options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument(
        "directory",
        metavar="DIR",
        type=Path,
        help="the results of a campaign, a folder in which outputs of convkit lie, or one output",
    )
    parser.add_argument(
        "--table", metavar="FILE", type=Path, help="the campaign's table; DIR gets a copy without credentials"
    )
    parser.add_argument(
        "--verify",
        action="store_true",
        help="compare every byte of the outputs with the receipts; default: sizes and times of change",
    )
    parser.add_argument(
        "--baselines", metavar="DIR", type=Path, help="show what was accepted of each row, and what moved since"
    )
    parser.add_argument(
        "--no-page",
        action="store_true",
        help="write nothing: print the table of a page that is there, of the outputs as they are now",
    )
    no_fail_option(parser)


def altered(target: Path) -> tuple[str, ...]:
    """What is wrong with an output, by its receipt and every byte."""
    from convkit.verify.receipts import verify

    try:
        with progress(f"verify {target}") as advance:
            return verify(target, progress=advance).problems
    except ConvkitError as error:
        return (str(error),)


def run(args: argparse.Namespace) -> int:
    """Build the page; the exit code shows the campaign's verdict."""
    if args.no_page:
        return looked_at_again(args)
    page = build_report(args.directory, table=args.table, judge=altered, verify=args.verify, baselines=args.baselines)
    return shown(args, page)


def shown(args: argparse.Namespace, page: Path) -> int:
    """Show what a page says, and return the exit code that its verdict has."""
    return _outcome(args, read_summary(summary_beside(page)), page)


def looked_at_again(args: argparse.Namespace) -> int:
    """Show what a page would say now, and why where it would say something else of an output; write nothing."""
    page, _ = page_places(args.directory)
    summary = summarize(read_campaign(args.directory, altered, verify=args.verify), page.parent, args.baselines)
    if not summary.passed:
        note("not every conversion is proved")
    for row in summary.rows:
        if row.stale:
            note(f"{row.id}: {row.problem}")
    return _outcome(args, summary, page)


def _outcome(args: argparse.Namespace, summary: Summary, page: Path) -> int:
    if args.json:
        emit(summary.to_json() | {"page": str(page)})
    else:
        say(*format_table(summary).split("\n"))
        say(str(page))
    return 0 if summary.passed or args.no_fail else 1
