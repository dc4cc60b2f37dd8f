"""The report on a campaign, or on one conversion: one HTML page that opens offline.

    >>> from convkit.report import build_report           # doctest: +SKIP
    >>> build_report(Path("results"))                     # doctest: +SKIP
    PosixPath('results/report.html')

It is made from whatever documents the stages have left: records, plans, receipts, verdicts, benchmarks. No model
is run. Whether the outputs are still there and unchanged, :mod:`convkit.report.standing` finds out.

Every command writes numbers as pages do (:mod:`convkit.report.text`): what only a page needs is imported for it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from convkit.report.standing import Judge

__all__ = ["build_report"]


def build_report(
    directory: Path,
    *,
    table: Path | None = None,
    judge: Judge | None = None,
    verify: bool = False,
    baselines: Path | None = None,
) -> Path:
    """Write ``report.html`` and ``summary.json`` into a results folder, and return the page's path.

    Args:
        directory: the results folder; or the target of one conversion, whose page is ``<target>.report.html``.
        judge: compares the bytes of an output with its receipt: the problems of :func:`convkit.verify.receipts.verify`.
            Without it, a file with another time of change counts as changed.
        verify: whether to compare all bytes; else sizes and times of change are enough.
        baselines: a folder of baselines: each row gets its history, and what has moved since.
        table: the campaign's table of claims. A copy without credentials is left in the folder, as ``checkpoints.tsv``.

    Raises:
        ConvkitError: the folder holds nothing to report on, or the table can't be read.
    """
    from convkit.report.by_hand import page_places
    from convkit.report.campaign import TABLE, read_campaign
    from convkit.report.page import render
    from convkit.report.summary import summarize
    from convkit.report.table import without_credentials

    if table is not None:
        _write(directory / TABLE, without_credentials(table))
    conversions = read_campaign(directory, judge, verify=verify)
    page, figures = page_places(directory)
    summary = summarize(conversions, page.parent, baselines)
    _write(figures, json.dumps(summary.to_json(), indent=1, ensure_ascii=False) + "\n")
    return _write(page, render(summary, conversions, figures.name))


def _write(path: Path, content: str) -> Path:
    from convkit.files.document import write_whole

    write_whole(path, content.encode("utf-8", "backslashreplace"))  # names that aren't Unicode
    return path
