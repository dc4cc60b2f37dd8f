"""The table of claims as a file: which checkpoints a campaign converts, and into what (see ``config/README.md``)."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path

from convkit.errors import UsageError
from convkit.files.uri import hide_secrets, without_secrets

#: the key of cells beyond the last column
BEYOND = "beyond the last"


def read_rows(path: str | os.PathLike[str]) -> list[dict[str, str]]:
    """Read the rows of a table, each a cell by its column; cells that are missing at the end of a row are empty.

    Lines that begin with ``#`` and rows of empty cells don't count.

    Raises:
        UsageError: this isn't a table.
    """
    if not Path(path).is_file():
        raise UsageError("there is no file", path=path, remedy="name the table of claims")
    try:
        lines = io.StringIO(Path(path).read_bytes().decode("utf-8-sig"), newline="")
        counted = (line for line in lines if not line.startswith("#"))
        return [row for row in csv.DictReader(counted, delimiter="\t", restval="", restkey=BEYOND) if any(row.values())]
    except UnicodeDecodeError as error:
        raise UsageError(f"isn't UTF-8: {error.reason}", path=path, remedy="save the table as UTF-8") from None
    except csv.Error as error:
        raise UsageError(f"isn't a table: {error}", path=path, remedy="separate columns by tabs") from None


def row_of(path: str | os.PathLike[str], id: str) -> dict[str, str]:
    """The row of that id.

    Raises:
        UsageError: the table has none.
    """
    for row in read_rows(path):
        if row.get("id") == id:
            return row
    raise UsageError(f"has no row {id!r}", path=path, remedy="give the id of a row")


def without_credentials(path: str | os.PathLike[str]) -> str:
    """The text of a table in which every URI is masked, for all to read.

    Raises:
        UsageError: this isn't a table.
    """
    rows = read_rows(path)
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0] if rows else [], delimiter="\t", lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _shown(name, cell) for name, cell in row.items() if name != BEYOND})
    return text.getvalue()


def _shown(column: str, cell: str) -> str:
    return without_secrets(cell) if column == "source" else hide_secrets(cell)
