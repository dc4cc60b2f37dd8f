"""The table at the top of the page: a line for each conversion, the worst first, and what it can be filtered by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from convkit.report.summary import Row, Summary, under

#: what the page says of each verdict, the worst first: who opens it sees at the top what needs a look
WORDS = {
    "no": "not proved",
    "reference in doubt": "reference in doubt",
    "stale": "stale",
    "stopped": "stopped",
    "not shown": "not shown",
    "left out": "not proved",
    "yes": "proved",
}
#: what stands for a figure that a document doesn't give
NOT_RECORDED = "not recorded"
_DEVIATING = "yes with a deviation"
#: what the filter says, where two choices have the same word
_CHOICES = WORDS | {"left out": "not proved: a check left out", _DEVIATING: "proved with a deviation"}


@dataclass(frozen=True)
class Choice:
    """A value to filter by, in words, and how many rows have it."""

    value: str
    words: str
    rows: int


def worst_first(rows: Iterable[Row]) -> list[int]:
    """The numbers of the rows, those that aren't proved on top; of equal verdicts, in the order of the table."""
    order = [*WORDS]
    return [
        number
        for number, _ in sorted(enumerate(rows), key=lambda one: (order.index(one[1].verdict), under(one[1]) == ""))
    ]


def key_of(row: Row) -> str:
    """The value by which the page filters a row's verdict: a row that is proved under a deviation has its own."""
    return _DEVIATING if under(row) else row.verdict


def said(row: Row) -> str:
    """The verdict in words: ``proved, with a deviation``."""
    return ", ".join(filter(None, (WORDS[row.verdict], under(row))))


def verdicts(summary: Summary) -> list[Choice]:
    """The verdicts that rows have, the worst first."""
    counts = Counter(key_of(row) for row in summary.rows)
    return [Choice(key, words, counts[key]) for key, words in _CHOICES.items() if counts[key]]


def families(summary: Summary) -> list[Choice]:
    """The model families that rows have, by name."""
    counts = Counter(row.family for row in summary.rows)
    return [Choice(family, family, counts[family]) for family in sorted(counts)]


def without_check(row: Row) -> str:
    """Why a row has no outcome of a check that its claim asks for; where it was stopped, its problem says."""
    return "not made" if row.stopped_at else "not needed"


def without_faults(row: Row) -> str:
    """Why a row has no planted faults."""
    return "none planted" if row.outcomes else "no check made"


def without_plan(row: Row) -> str:
    """Why a figure is missing that the plan gives."""
    return "no plan" if row.leaves.source is None else "not in the plan"
