"""Check a row of the table of claims, as far as possible before fetching."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from convkit.cli import parser
from convkit.cli.kinds import KINDS, MIGRATIONS, REPAIRS, kind_of
from convkit.errors import ConvkitError, UsageError
from convkit.files.receipt import REPAIR
from convkit.formats import get_format
from convkit.generate.options import parse
from convkit.mappings import get_layout
from convkit.plan.route import check_stop, layout_at, layouts_of
from convkit.report.checks import checks_asked_for

if TYPE_CHECKING:
    from collections.abc import Iterator


def check_claim(row: Mapping[str, str]) -> None:
    """Check that layouts, format, options, checks and generated model exist.

    Raises:
        UsageError: one doesn't; its ``key`` is the column.
    """
    with _column("source"):
        if row["source"].startswith("generated://"):
            parse(row["source"])
    with _column("from"):
        if row["from"]:
            get_layout(row["from"])
    with _column("to"):
        if not row["to"] and row["format"] not in MIGRATIONS:
            raise UsageError("names no layout", remedy=f"only formats {' and '.join(MIGRATIONS)} need none")
        if row["to"] and row["to"] not in REPAIRS:
            check_stop(row["to"])
            if row["from"] and not _through(row):
                layout_at(row["from"], row["to"])
    with _column("format"):
        if row["format"]:
            get_format(row["format"])
    with _column("to"):
        is_one_file(row)
    with _column("options"):
        for stop in getattr(_asked(row), "through", ()):
            check_stop(stop)
    with _column("checks"):
        checks_of(row)


def opening_of(row: Mapping[str, str]) -> list[str]:
    """Those options of a row that say how its source is opened, which every stage needs to know, as arguments."""
    asked = vars(_asked(row))
    given = {"--config": asked.get("config"), "--source-format": asked.get("source_format")}
    return [f"{option}={value}" for option, value in given.items() if value is not None]


def _asked(row: Mapping[str, str]) -> argparse.Namespace:
    """What the command that plans a row would be asked for."""
    command = KINDS[kind_of(row)].plan(row) or ()
    try:
        words = shlex.split(row["options"])
        if "" in words:  # Snakemake doesn't quote an empty word
            raise UsageError(f"{row['options']!r}: holds an empty word")
        return parser().parse_args([*command, *words])
    except (ValueError, SystemExit) as error:
        raise UsageError(f"{row['options']!r}: {error or 'asks for help'}") from None


def checks_of(row: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """The checks that are made of a row's output, each with the options that the row gives to its command.

    Raises:
        UsageError: the column ``checks`` asks for a check or an option that there isn't for this kind of work.
    """
    cell = row.get("checks", "").strip()
    taken = KINDS[kind_of(row)].checks
    asked = checks_asked_for(cell)
    if cell and (other := next((check for check in asked if check not in taken), None)):
        raise UsageError(f"{other!r} isn't a check of a {kind_of(row)}", remedy=f"it takes {', '.join(taken)}")
    for check, given in asked.items():
        for option, value in given.items():
            _check_option(check, taken[check], option, value)
    return {check: given for check, given in asked.items() if check in taken}


def _check_option(check: str, allowed: tuple[str, ...], option: str, value: str) -> None:
    word = f"{check}:{option}={value}"
    if option not in allowed:
        remedy = f"allowed are {', '.join(allowed)}" if allowed else f"write {check} alone"
        raise UsageError(f"{word!r}: {check} takes no option {option} here", remedy=remedy)
    try:
        parser().parse_args([check, "SRC", "DST", f"--{option}={value}"])
    except UsageError as error:
        raise UsageError(f"{word!r}: {error.problem}", remedy=error.remedy) from None


def is_one_file(row: Mapping[str, str]) -> bool:
    """Whether a row's output is a file instead of a folder.

    Raises:
        UsageError: ``to`` is a framework with layouts of both kinds.
    """
    if kind_of(row) == REPAIR:
        return True
    formats = [row["format"]] if row["format"] else [get_layout(name).format for name in layouts_of(row["to"])]
    folders = {get_format(name).folder for name in formats}
    if len(folders) > 1:
        raise UsageError(f"may be a file or a folder: {row['to']} has layouts of both kinds", remedy="name the layout")
    return folders == {False}


def _through(row: Mapping[str, str]) -> bool:
    """Whether a row's options name layouts to pass through."""
    return any(word.partition("=")[0] == "--through" for word in row["options"].split())


@contextmanager
def _column(name: str) -> Iterator[None]:
    """Add the column to errors."""
    try:
        yield
    except ConvkitError as error:
        raise UsageError(error.problem, key=name, remedy=error.remedy) from None
