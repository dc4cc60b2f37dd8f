"""A row of the table of claims, as far as it can be checked before anything is fetched."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from convkit.cli import parser
from convkit.errors import ConvkitError, UsageError
from convkit.formats import get_format
from convkit.generate.options import parse
from convkit.mappings import get_layout

if TYPE_CHECKING:
    from collections.abc import Iterator

#: what ``to`` may name beside a layout -> the words of the command that does it, before the row's options
REPAIRS = {
    "fix-checkpoint-spec": ("cerebras", "fix-checkpoint-spec", "SRC"),
    "data-iter-state": ("cerebras", "data-iter-state", "--old_checkpoint", "SRC", "--output_file", "DST"),
}
#: formats that a checkpoint of Orbax's is migrated to where ``to`` names no layout
MIGRATIONS = ("orbax-v0", "orbax-v1")


def check_claim(row: Mapping[str, str]) -> None:
    """Layouts, format, options and generated model must exist.

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
            get_layout(row["to"])
    with _column("format"):
        if row["format"]:
            get_format(row["format"])
    with _column("options"):
        try:
            parser().parse_args([*REPAIRS.get(row["to"], ("plan", "SRC", *_target(row))), *shlex.split(row["options"])])
        except (ValueError, SystemExit) as error:
            raise UsageError(f"{row['options']!r}: {error or 'asks for help'}") from None


def _target(row: Mapping[str, str]) -> tuple[str, str]:
    """The option that says where to: a layout, or the other API of Orbax."""
    return ("--to", row["to"]) if row["to"] else ("--format", row["format"])


@contextmanager
def _column(name: str) -> Iterator[None]:
    """Name the column in what is raised."""
    try:
        yield
    except ConvkitError as error:
        raise UsageError(error.problem, key=name, remedy=error.remedy) from None
