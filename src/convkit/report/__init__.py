"""The page of a campaign, or of one conversion: one file that opens offline.

    >>> from convkit.report import build_report           # doctest: +SKIP
    >>> build_report(Path("results"))                     # doctest: +SKIP
    PosixPath('results/report.html')

Reads what the stages left (records, plans, receipts, verdicts, benchmarks), whatever part of it is
there; runs no model and opens no checkpoint.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from convkit.report.campaign import read_campaign
from convkit.report.page import render
from convkit.report.summary import format_table, summarize

__all__ = ["build_report", "format_table", "read_campaign", "summarize"]


def build_report(directory: Path) -> Path:
    """Write ``report.html`` and ``summary.json`` into a results folder; returns the page's path.

    Raises:
        ConvkitError: the folder holds nothing to report on.
    """
    conversions = read_campaign(directory)
    summary = summarize(conversions)
    _write(directory / "summary.json", json.dumps(summary, indent=1, ensure_ascii=False) + "\n")
    return _write(directory / "report.html", render(summary, conversions))


def _write(path: Path, content: str) -> Path:
    """Appear under the final name only when whole."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(content, encoding="utf-8")
    return partial.replace(path)
