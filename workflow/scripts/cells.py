"""Cells of the table of claims: reads the table, sizes and checks; what is wrong is said in one line."""

from __future__ import annotations

import csv
import difflib
import io
import re
from pathlib import Path
from typing import Any

Row = dict[str, str]
CHECKS = ("roundtrip", "equivalence")
#: what stands for cells beyond the last column
BEYOND = "beyond the last"
_SIZE = re.compile(r"(\d+\.?\d*|\.\d+)\s*([kmg]i?)?b?", re.IGNORECASE)
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30}


class CellError(Exception):
    """What is wrong with a cell."""


def near(name: str, known: Any) -> str:
    """The name that was probably meant, as a question."""
    found = difflib.get_close_matches(name.lower(), [str(one) for one in known], 1, 0.6)
    return f"; did you mean {found[0]}?" if found else ""


def masked(text: str) -> str:
    """A text in one line, in which no URI shows what may be a password: nothing after the scheme, to the text's end."""
    return re.sub(r"(?<!generated)://(?!\*{3}').*", "://***", " ".join(text.split()))


def read(path: str, columns: list[str]) -> list[Row]:
    """The rows of a table, each with every column; lines that begin with ``#`` and rows of empty cells don't count.

    Raises:
        CellError: it isn't a table, or has no or unknown columns.
    """
    try:
        lines = io.StringIO(Path(path).read_bytes().decode("utf-8-sig"), newline="")
        table = csv.DictReader(
            (line for line in lines if not line.startswith("#")), delimiter="\t", restval="", restkey=BEYOND
        )
        rows = [row for row in table if any(row.values())]
    except FileNotFoundError:
        raise CellError("there is no such file") from None
    except OSError as error:
        raise CellError(f"can't be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise CellError(f"isn't UTF-8: {error.reason} (save the table as UTF-8)") from None
    except csv.Error as error:
        raise CellError(f"isn't a table: {error} (separate columns by tabs)") from None
    header = [name or "" for name in table.fieldnames or ()]
    wrong = [f"column {name!r}: isn't known{near(name, columns)}" for name in header if name not in columns]
    wrong += [f"column {name}: is there twice" for name in dict.fromkeys(header) if header.count(name) > 1]
    wrong += [f"column {name}: is missing" for name in ("id", "source") if name not in header]
    if wrong:
        raise CellError("\n".join(f"{one} (columns are {', '.join(columns)})" for one in wrong))
    rows = [dict.fromkeys(columns, "") | row for row in rows]
    return [row | {"sha256": row["sha256"].lower()} for row in rows]


def size(text: str) -> int:
    """The bytes of ``5GB``, ``500MB`` or ``2GiB``."""
    found = _SIZE.fullmatch(text)
    amount = float(found[1]) * _UNITS[(found[2] or "").lower()] if found else 0
    if amount < 1:
        raise CellError(f"{text!r} isn't a size (write 5GB, 500MB or 2GiB)")
    return int(amount)


def asked_for(cell: str) -> dict[str, dict[str, str]]:
    """The checks that a cell asks for, in the order in which they run, each with the options given for it."""
    words = [word.strip() for word in cell.split(",")]
    if words in ([""], ["none"]):
        return {check: {} for check in CHECKS} if words == [""] else {}
    asked: dict[str, dict[str, str]] = {}
    seen = set()
    for word in words:
        check, colon, given = word.partition(":")
        option, sign, value = given.partition("=")
        if word == "none":
            raise CellError("'none' beside other words (a cell that says none says nothing else)")
        if check not in CHECKS:
            remedy = f"known are {', '.join(CHECKS)}; none leaves out both"
            raise CellError(f"{word!r} names no check ({remedy}){near(check, CHECKS)}")
        if colon and not (option and sign and value):
            raise CellError(f"{word!r} gives no option (write {check}:OPTION=VALUE)")
        if (name := f"{check}{colon}{option}") in seen:
            raise CellError(f"{name!r} is there twice (give it once)")
        seen.add(name)
        asked.setdefault(check, {}).update({option: value} if colon else {})
    return {check: asked[check] for check in CHECKS if check in asked}
